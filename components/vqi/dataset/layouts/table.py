"""A table at the top of the source, CSV or JSON lines: a row a photograph.

Columns: path, label (good, defect, unknown, or the type of a defect), split (train, validation, test, or empty), defect
(its type), mask and ignore (files, separated by ';'), boxes ("x1 y1 x2 y2", separated by ';', in pixels), group. Other
columns are kept as metadata. `vqi convert --to table` writes such a table.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping

from vqi.dataset.layouts.annotations import left_over, number, twice
from vqi.dataset.layouts.interface import (
    Box,
    LayoutReader,
    LayoutSplit,
    Match,
    Options,
    Photograph,
    Reading,
    SourceFiles,
)
from vqi.dataset.layouts.listing import examples
from vqi.dataset.layouts.names import VALIDATION_FOLDERS, folder_key, is_good_folder
from vqi.dataset.layouts.source_files import parse_json
from vqi.platform.errors import BadInput

COLUMNS = ("path", "split", "label", "defect", "mask", "ignore", "boxes", "group")
_SPLITS: dict[str, LayoutSplit | None] = {
    "": None,
    "train": "train",
    "test": "test",
    **dict.fromkeys(VALIDATION_FOLDERS, "validation"),
}
# Labels that name no type of defect.
_DEFECTIVE = ("defective", "bad", "ng", "nok", "ko", "anomaly", "anomalous", "abnormal", "fail", "reject")
_SUFFIXES = (".csv", ".jsonl", ".ndjson")


class Table(LayoutReader):
    """Reads a table of photographs."""

    name = "table"

    def detect(self, files: SourceFiles) -> Match:
        """Whether one table at the top has the columns path and label."""
        tables = [name for name in _tables(files) if {"path", "label"} <= set(_columns(files, name))]
        if len(tables) == 1:
            return Match(0.92, f"it has {tables[0]} with the columns path and label")
        if tables:
            return Match(0.0, f"The source has several tables of photographs ({examples(tables)}); leave one.")
        return Match(0.0, "The source has no CSV or JSON lines with the columns path and label at its top.")

    def read(self, files: SourceFiles, options: Options) -> Reading:
        """A photograph for each row."""
        table = next(name for name in _tables(files) if {"path", "label"} <= set(_columns(files, name)))
        photographs = [_photograph(files, row, where, table) for where, row in _rows(files, table)]
        twice((photograph.path for photograph in photographs), table)
        used = [name for p in photographs for name in (p.path, *p.mask_files)]
        extra = sorted({name for photograph in photographs for name, _ in photograph.metadata})
        notes = [f"Columns of {table} kept as metadata: {examples(extra, 10)}."] if extra else []
        return Reading(tuple(photographs), (*notes, *left_over(files, used, f"{table} does not list them")))


def _tables(files: SourceFiles) -> list[str]:
    return [name for name in files.listing.others if "/" not in name and name.lower().endswith(_SUFFIXES)]


def _columns(files: SourceFiles, table: str) -> list[str]:
    if table.lower().endswith(".csv"):
        try:
            names = [name.strip() for name in next(csv.reader(files.lines(table)), [])]
        except csv.Error:
            return []
        if again := [name for name in COLUMNS if names.count(name) > 1]:
            raise BadInput(f"{table} has the column {again[0]} twice; leave one.")
        return names
    first = next((line for line in files.lines(table) if line.strip()), "")
    try:
        row = parse_json(first)
    except (ValueError, RecursionError):
        return []
    return [str(name) for name in row] if isinstance(row, dict) else []


def _rows(files: SourceFiles, table: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows as text by column, each with its place for errors."""
    if table.lower().endswith(".csv"):
        rows = csv.DictReader(files.lines(table), strict=True, restkey="", skipinitialspace=True)
        try:
            for row in rows:
                where = f"{table}, line {rows.line_num}"
                if "" in row or None in row.values():
                    raise BadInput(f"{where} has another number of cells than there are columns; mend the table.")
                yield where, {name.strip(): value.strip() for name, value in row.items()}
        except csv.Error as error:
            raise BadInput(f"{table}, line {rows.line_num}, is not CSV ({error}); export it again.") from error
        return
    for position, line in enumerate(files.lines(table), 1):
        where = f"{table}, line {position}"
        if not line.strip():
            continue
        try:
            value = parse_json(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{where} is not JSON ({error}); mend or remove it.") from error
        if not isinstance(value, dict):
            raise BadInput(f"{where} is not a JSON object; write one for each photograph.")
        yield where, {str(name): _text(item) for name, item in value.items()}


def _text(value: object) -> str:
    """A JSON value as a cell holds it; a list is separated by ';'."""
    if isinstance(value, list):
        return ";".join(" ".join(map(str, item)) if isinstance(item, list) else _text(item) for item in value)
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _photograph(files: SourceFiles, row: Mapping[str, str], where: str, table: str) -> Photograph:
    def named_files(column: str) -> tuple[str, ...]:
        text = row.get(column, "")
        try:
            if not text:
                return ()
            # A name may hold the separator itself.
            return (text,) if text in files else tuple(files.find(part.strip(), table) for part in text.split(";"))
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from error

    try:
        path = files.find(row["path"], table)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error
    split_name = folder_key(row.get("split", ""))
    if split_name not in _SPLITS:
        raise BadInput(f"{where}: the split is {row['split']!r}; it is train, validation, test or empty.")
    split, defect = _SPLITS[split_name], row.get("defect", "")
    label = folder_key(row["label"])
    metadata = tuple((name, value) for name, value in row.items() if name not in COLUMNS and value)
    group, masks, ignore = row.get("group", ""), named_files("mask"), named_files("ignore")
    boxes = tuple(_box(part, where) for part in row.get("boxes", "").split(";") if part.strip())
    if label in ("", "unknown"):
        return Photograph(path, "test", "unknown", "unknown", (), group, ignore, metadata=metadata)
    if is_good_folder(label):
        if masks or boxes:
            raise BadInput(f"{where}: a photograph labelled good has a mask; label it defect, or take the mask out.")
        return Photograph(path, split, "good", "good", (), group, ignore, metadata=metadata)
    if label.isdigit():
        raise BadInput(f"{where}: the label is {label}; write good, defect, unknown or the name of the defect.")
    kind = defect or ("defect" if label in _DEFECTIVE else row["label"])
    if kind in ("good", "unknown"):
        raise BadInput(f"{where}: the label is {row['label']!r} and the defect {kind!r}; write the name of the defect.")
    if split in (None, "train"):
        if split == "train":
            raise BadInput(f"{where}: a defective photograph stands in the train split; it belongs to test.")
        split = "test"
    return Photograph(path, split, "defect", kind, (*masks, *boxes), group, ignore, metadata=metadata)


def _box(text: str, where: str) -> Box:
    edges = [number(part, f"{where}: the box {text.strip()!r}") for part in text.split()]
    if len(edges) != 4:
        raise BadInput(f"{where}: the box {text.strip()!r} is not x1 y1 x2 y2.")
    left, top, right, bottom = edges
    return Box(left, top, right, bottom)
