"""Plain folders: normals in good/ (or normal/, ok/ ...), one folder a defect type, nested as deep as one likes; or
normals alone.

Masks are optional: in a folder ground_truth/ or masks/ at any level, which mirrors the photographs' folders, or beside
the photograph (vqi.dataset.layouts.masks).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from vqi.dataset.layouts.interface import LayoutReader, Match, Options, Photograph, Reading, SourceFiles
from vqi.dataset.layouts.listing import Listing, counted, examples, parent_and_stem, role_of
from vqi.dataset.layouts.masks import assign_masks, separate_masks
from vqi.dataset.layouts.names import GOOD_FOLDERS, is_bad_folder, is_split_folder, part_in_name, words
from vqi.platform.errors import BadInput

# How sure photographs without any folder are good parts alone: less than whatever a file beside them says.
FLAT = 0.1
# Files that may say of a photograph, or of all, which part is defective.
_ANNOTATIONS = (".json", ".xml", ".txt", ".csv", ".tsv", ".xlsx", ".xls", ".yaml", ".yml")
_TABLE_WORDS = {
    *("label", "labels", "annotation", "annotations", "class", "classes", "coco", "via", "truth", "gt"),
    *("defect", "defects", "anomaly", "anomalies", "ng", "nok"),
}


class Folders(LayoutReader):
    """Reads plain folders."""

    name = "folders"
    labels_by_folder = True

    def detect(self, files: SourceFiles) -> Match:
        """Whether there is a folder of normals at the top (or in images/ there), or nothing but photographs without any
        folder."""
        listing = files.listing
        if any(role_of(parent_and_stem(path)[0])[0] == "good" for path in listing.paths):
            return Match(0.5, "it has a folder of good parts")
        # Below another folder, photographs alone say nothing: that folder's name may speak against them.
        if _is_flat(listing) and not files.top:
            return Match(FLAT, "it has photographs and no folders")
        normals = ", ".join(GOOD_FOLDERS)
        return Match(
            0.0,
            f"The source has no folder of normal photographs ({normals}), as layout folders needs; it has "
            f"{examples(listing.folders())}.",
        )

    def read(self, files: SourceFiles, options: Options) -> Reading:
        """Give every photograph its label, defect type and masks; normals stay undivided, everything else goes to test.

        Raises BadInput where a folder of a split lies beside that of normals, and where something speaks against
        taking photographs without folders as good parts.
        """
        listing, suffix = files.listing, options.mask_suffix
        flat = _is_flat(listing)
        if flat:
            _check_flat(listing, suffix, files.name)
        splits = [folder for folder in listing.folders() if is_split_folder(folder)]
        if splits:
            raise BadInput(
                f"The source holds {examples(splits)} beside a folder of normals: as layout folders reads it, what "
                "lies there would be a defect type; "
                "put the normals into train/good for layout mvtec, or take the folders of splits out."
            )
        mask_paths, paths = separate_masks(listing.paths, suffix)
        notes = []
        if flat:
            notes.append(f"The source has no folders: {_all(len(paths))}.{_beginnings(paths)}")
        photographs = []
        unlabelled = 0
        for path in paths:
            folder, _ = parent_and_stem(path)
            label, defect = role_of(GOOD_FOLDERS[0] if flat else folder)
            unlabelled += label == "unknown" and not folder
            photographs.append(Photograph(path, None if label == "good" else "test", label, defect))
        if unlabelled:
            notes.append(f"{counted(unlabelled, 'photograph')} outside any folder labelled unknown.")
        masked = assign_masks(mask_paths, {photograph.path: photograph.label for photograph in photographs}, suffix)
        return Reading(masked.attach_to(photographs), (*notes, *masked.notes))


def _all(number: int) -> str:
    return (
        "the only photograph is taken as a good part"
        if number == 1
        else f"all {number} photographs are taken as good parts"
    )


def _is_flat(listing: Listing) -> bool:
    """Whether the photographs lie in no folder at all."""
    return bool(listing.paths) and not listing.folders()


def _check_flat(listing: Listing, mask_suffix: str, source_name: str) -> None:
    """Raise BadInput where something speaks against taking all photographs as good parts."""
    reasons = list(_reasons(listing, mask_suffix))
    if is_bad_folder(source_name):
        reasons.append(f"the source is called {source_name}")
    if reasons:
        raise BadInput(
            f"Are all {counted(len(listing.paths), 'image')} of the source good parts? It has no folders that say so, "
            f"and {'; '.join(reasons)}. "
            "Put the good parts into a folder good and the others into a folder for each type of defect; if all are "
            "good, put all into good."
        )


def _reasons(listing: Listing, mask_suffix: str) -> Iterator[str]:
    """What speaks against taking every photograph of a set without folders as a good part, a clause each."""
    masks, photographs = separate_masks(listing.paths, mask_suffix)
    part_by_path = {path: part_in_name(parent_and_stem(path)[1]) for path in photographs}
    bad = [path for path in photographs if part_by_path[path] == "bad"]
    good = [path for path in photographs if part_by_path[path] == "good"]
    if bad:
        yield f"{len(bad)} of {counted(len(photographs), 'name')} speak of a defect ({examples(bad)})"
    elif good and len(good) < len(photographs):
        others = [path for path in photographs if not part_by_path[path]]
        yield (
            f"{len(good)} of {counted(len(photographs), 'name')} speak of a good part ({examples(good, 1)}) "
            f"and the others do not ({examples(others, 1)})"
        )
    if masks:
        yield f"there {'is a mask' if len(masks) == 1 else f'are {len(masks)} masks'} ({examples(list(masks))})"
    stems = _by_stem(photographs)
    twins = [paths for paths in stems.values() if len(paths) > 1]
    if twins:
        yield f"{counted(len(twins), 'name')} come twice, as a photograph and its mask may ({', '.join(twins[0])})"
    beside = [name for name in listing.others if name.lower().endswith(_ANNOTATIONS) and _is_annotation(name, stems)]
    if beside:
        yield (
            f"there {'is a file' if len(beside) == 1 else f'are {len(beside)} files'} that may say which are "
            f"defective ({examples(beside)})"
        )
    backslashes = [path for path in listing.paths if "\\" in path]
    if backslashes:
        yield (
            f"{counted(len(backslashes), 'name')} hold backslashes, as folders do that a tool unpacked wrongly "
            f"({examples(backslashes, 1)})"
        )


def _by_stem(paths: Iterable[str]) -> dict[str, list[str]]:
    stems: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        stems[parent_and_stem(path)[1].casefold()].append(path)
    return stems


def _is_annotation(name: str, stems: dict[str, list[str]]) -> bool:
    stem = parent_and_stem(name)[1]
    # "0.png.json" is as common as "0.json".
    return (
        stem.casefold() in stems
        or re.sub(r"\.\w+$", "", stem).casefold() in stems
        or not _TABLE_WORDS.isdisjoint(words(name))
    )


def _beginnings(paths: list[str]) -> str:
    """How the names begin, where they begin in several ways that may be kinds of parts: " Their names begin with burr
    (3) and chip (4)."."""
    first = Counter((words(parent_and_stem(path)[1]) or [""])[0] for path in paths)
    if not 1 < len(first) <= min(6, len(paths) // 2):
        return ""
    named = [f"{word or 'no word'} ({count})" for word, count in sorted(first.items())]
    return f" Their names begin with {', '.join(named[:-1])} and {named[-1]}."
