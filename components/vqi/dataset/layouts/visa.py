"""One product of VisA: Data/Images/{Normal,Anomaly}, Data/Masks/Anomaly and image_anno.csv (image, label, mask), with
split_csv/1cls.csv (object, split, label, image, mask) where it is brought along.

Zou et al., "SPot-the-Difference Self-supervised Pre-training for Anomaly Detection and Segmentation", ECCV 2022. Labels
such as "bent,melted" name several defects of one photograph.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping

from vqi.dataset.layouts.annotations import left_over, moved_note, twice
from vqi.dataset.layouts.interface import LayoutReader, LayoutSplit, Match, Options, Photograph, Reading, SourceFiles
from vqi.dataset.layouts.listing import examples
from vqi.dataset.layouts.names import is_good_folder
from vqi.platform.errors import BadInput

ANNOTATIONS, SPLIT_TABLE = "image_anno.csv", "1cls.csv"


class VisA(LayoutReader):
    """Reads one product of VisA."""

    name = "visa"

    def detect(self, files: SourceFiles) -> Match:
        """Whether there is image_anno.csv of VisA, at the top or in the folder of the product."""
        tables = _tables(files)
        if tables and _header(files, tables[0]) >= {"image", "label", "mask"}:
            return Match(0.97, f"it has {tables[0]} of VisA")
        return Match(0.0, f"The source has no {ANNOTATIONS} with image, label and mask, as layout visa needs.")

    def read(self, files: SourceFiles, options: Options) -> Reading:
        """The photographs of the table, with the splits of 1cls.csv where it is there."""
        tables = _tables(files)
        if len(tables) > 1:
            products = [table.rsplit("/", 2)[-2] for table in tables]
            raise BadInput(f"The source holds several products ({examples(products)}); give the folder of one of them.")
        table = tables[0]
        splits = _splits(files)
        photographs, moved = [], 0
        for where, row in _rows(files, table):
            path = _find(files, row["image"], table, where)
            split = splits.get(path)
            kinds = [kind.strip() for kind in row["label"].split(",") if kind.strip()]
            if not kinds:
                raise BadInput(f"{where} has no label; it is normal, or the names of defects.")
            if kinds == ["normal"] or all(map(is_good_folder, kinds)):
                photographs.append(Photograph(path, split, "good", "good"))
                continue
            masks = (_find(files, row["mask"], table, where),) if row["mask"] else ()
            moved += split == "train"
            photographs.append(Photograph(path, "test", "defect", "+".join(sorted(kinds)), masks))
        twice((photograph.path for photograph in photographs), table)
        used = [name for p in photographs for name in (p.path, *p.mask_files)]
        notes = moved_note(moved) + left_over(files, used, f"{table} does not list them")
        if not splits:
            notes.append(
                f"The source has no split_csv/{SPLIT_TABLE}: good photographs are split here, not as VisA does."
            )
        return Reading(tuple(photographs), tuple(notes))


def _tables(files: SourceFiles) -> list[str]:
    return [name for name in files.listing.others if name.split("/")[-1] == ANNOTATIONS and name.count("/") <= 1]


def _header(files: SourceFiles, table: str) -> set[str]:
    return {name.strip() for name in next(csv.reader(files.lines(table)), [])}


def _rows(files: SourceFiles, table: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The rows of a table, each with its place for errors."""
    rows = csv.DictReader(files.lines(table), strict=True)
    try:
        for row in rows:
            yield f"{table}, line {rows.line_num}", {k: (v or "").strip() for k, v in row.items() if isinstance(k, str)}
    except csv.Error as error:
        raise BadInput(f"{table}, line {rows.line_num}, is not CSV ({error}); bring the file that VisA has.") from error


def _find(files: SourceFiles, name: str, table: str, where: str) -> str:
    """A file that a row names: from VisA's top, whose folder of the product may be the top of this source."""
    try:
        return files.find(name, table)
    except BadInput as refusal:
        plain = not name.startswith("/") and ".." not in name.replace("\\", "/").split("/")
        below = f"{table.rpartition('/')[0]}/{name.partition('/')[2]}".lstrip("/")
        for path in (name, below) if plain else ():
            if path in files:
                return path
        raise BadInput(f"{where}: {refusal}") from refusal


def _splits(files: SourceFiles) -> dict[str, LayoutSplit]:
    """The split of each photograph that 1cls.csv lists and the source has."""
    tables = [name for name in files.listing.others if name.split("/")[-1] == SPLIT_TABLE]
    splits: dict[str, LayoutSplit] = {}
    for table in tables[:1]:
        if not _header(files, table) >= {"split", "image"}:
            raise BadInput(f"{table} has no columns split and image; bring the file that VisA has.")
        for where, row in _rows(files, table):
            if row["split"] not in ("train", "test"):
                raise BadInput(f"{where}: the split is {row['split']!r}; it is train or test.")
            for name in (row["image"], row["image"].partition("/")[2]):
                if name in files:
                    splits[name] = "train" if row["split"] == "train" else "test"
    return splits
