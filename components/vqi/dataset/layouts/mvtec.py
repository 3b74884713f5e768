"""The layout of MVTec AD: train/good, test/<defect>, ground_truth/<defect>/<stem><suffix>.png, optionally val/ or
validation/.

Bergmann et al., "MVTec AD", CVPR 2019. Defect folders may be nested; the defect type is the whole path below test/.
Masks may lie in a mask folder at any level, or beside their photographs (vqi.dataset.layouts.masks).
"""

from __future__ import annotations

from collections import Counter

from vqi.dataset.layouts.interface import (
    LayoutReader,
    LayoutSplit,
    Match,
    Options,
    Photograph,
    Reading,
    SourceFiles,
)
from vqi.dataset.layouts.listing import counted, examples, parent_and_stem, role_of
from vqi.dataset.layouts.masks import assign_masks, separate_masks
from vqi.dataset.layouts.names import GOOD_FOLDERS, VALIDATION_FOLDERS, folder_key


class MVTec(LayoutReader):
    """Reads the layout of MVTec AD."""

    name = "mvtec"
    labels_by_folder = True

    def detect(self, files: SourceFiles) -> Match:
        """Whether there are normals in train/good (or train/normal, train/ok ...)."""
        if any(_is_train_normal(path) for path in files.listing.paths):
            return Match(0.6, "it has good parts in a folder train/good")
        folders = files.listing.folders()
        seen = f"it has {examples(folders)}" if folders else "it has no folders"
        normals = f"train/good (or train/{', train/'.join(GOOD_FOLDERS[1:])})"
        return Match(0.0, f"The source has no photographs in {normals}, as layout mvtec needs; {seen}.")

    def read(self, files: SourceFiles, options: Options) -> Reading:
        """Give every photograph its split, label, defect type and masks."""
        mask_paths, paths = separate_masks(files.listing.paths, options.mask_suffix)
        photographs: list[Photograph] = []
        abnormal_train: list[str] = []
        outside: Counter[str] = Counter()
        for path in paths:
            first, _, rest = path.partition("/")
            split = _split(first) if rest else None
            if split == "train" and _is_train_normal(path):
                photographs.append(Photograph(path, "train", "good", "good"))
            elif split == "train":
                abnormal_train.append(path)
            elif split:
                photographs.append(Photograph(path, split, *role_of(parent_and_stem(rest)[0])))
            else:
                outside[first if rest else "the top folder"] += 1
        labels = {photograph.path: photograph.label for photograph in photographs}
        masked = assign_masks(mask_paths, labels, options.mask_suffix)
        notes = list(masked.notes)
        if abnormal_train:
            notes.append(
                f"{counted(len(abnormal_train), 'photograph')} in train/ outside train/good left out: only normals are "
                "trained on."
            )
        if outside:
            notes.append(
                f"{counted(outside.total(), 'image file')} outside train/, test/, validation/ and ground_truth/ left "
                f"out ({examples(sorted(outside))})."
            )
        return Reading(masked.attach_to(photographs), tuple(notes))


def _split(folder: str) -> LayoutSplit | None:
    key = folder_key(folder)
    return (
        "train" if key == "train" else "test" if key == "test" else "validation" if key in VALIDATION_FOLDERS else None
    )


def _is_train_normal(path: str) -> bool:
    parts = path.split("/")
    return len(parts) >= 3 and folder_key(parts[0]) == "train" and role_of("/".join(parts[1:-1]))[0] == "good"
