"""KolektorSDD and KolektorSDD2: a mask beside every photograph, which is defective where its mask marks anything.

KolektorSDD: kos01/Part0.jpg with kos01/Part0_label.bmp; a folder shows one part from several sides. KolektorSDD2:
train/10000.png with train/10000_GT.png, and test/. Tabernik et al., J. Intell. Manuf. 31 (2020); Bozic et al.,
Computers in Industry 129 (2021).
"""

from __future__ import annotations

import re

from vqi.dataset.layouts.annotations import moved_note
from vqi.dataset.layouts.interface import LayoutReader, LayoutSplit, Match, Options, Photograph, Reading, SourceFiles
from vqi.dataset.layouts.listing import counted, examples, parent_and_stem
from vqi.dataset.layouts.marking_masks import marking_masks
from vqi.dataset.layouts.names import folder_key

_MASK = re.compile(r"(.+)(_GT|_label)", re.IGNORECASE)
_PART = re.compile(r"kos\d+", re.IGNORECASE)
_SPLITS: dict[str, LayoutSplit] = {"train": "train", "test": "test"}


class Kolektor(LayoutReader):
    """Reads KolektorSDD and KolektorSDD2."""

    name = "kolektor"

    def detect(self, files: SourceFiles) -> Match:
        """Whether every photograph lies in kos01, kos02 ... or in train and test, and has a mask beside it."""
        masks = _masks(files.listing.paths)
        photographs = [path for path in files.listing.paths if path not in masks.values()]
        folders = {parent_and_stem(path)[0] for path in photographs}
        known = all(_PART.fullmatch(folder) or folder_key(folder) in _SPLITS for folder in folders)
        if photographs and known and all(path in masks for path in photographs):
            return Match(0.8, "every photograph has a mask _GT or _label beside it, as KolektorSDD")
        return Match(
            0.0,
            "The source has photographs without a mask _GT or _label beside them, or outside of kos01 ... or train and "
            "test, as layout kolektor needs.",
        )

    def read(self, files: SourceFiles, options: Options) -> Reading:
        """A photograph for each mask; the folders kos01 ... are parts, and have no splits."""
        masks = _masks(files.listing.paths)
        marking = marking_masks(files, masks.values())
        photographs, moved = [], 0
        for path in files.listing.paths:
            if path in masks.values():
                continue
            folder = parent_and_stem(path)[0]
            split, group = _SPLITS.get(folder_key(folder)), folder if _PART.fullmatch(folder) else ""
            if masks.get(path) in marking:
                moved += split == "train"
                photographs.append(Photograph(path, "test", "defect", "defect", (masks[path],), group))
            elif path in masks:
                photographs.append(Photograph(path, split, "good", "good", group=group))
            else:
                photographs.append(Photograph(path, "test", "unknown", "unknown", group=group))
        bare = [photograph.path for photograph in photographs if photograph.label == "unknown"]
        notes = (
            [f"{counted(len(bare), 'photograph')} without a mask labelled unknown ({examples(bare)})."] if bare else []
        )
        return Reading(tuple(photographs), (*notes, *moved_note(moved)))


def _masks(paths: tuple[str, ...]) -> dict[str, str]:
    """The mask of each photograph that has one beside it, by the photograph's path."""
    by_name = {parent_and_stem(path): path for path in paths}
    masks = {}
    for (folder, stem), path in by_name.items():
        match = _MASK.fullmatch(stem)
        if match and (folder, match[1]) in by_name:
            masks[by_name[folder, match[1]]] = path
    return masks
