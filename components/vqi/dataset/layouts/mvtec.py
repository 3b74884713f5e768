"""The layout of MVTec AD: train/good, test/<defect>, ground_truth/<defect>/<stem><suffix>.png, optionally val/ or validation/.

Bergmann et al., "MVTec AD", CVPR 2019. Defect folders may be nested; the defect type is the whole path below test/.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from vqi.dataset.layouts.listing import (
    GOOD_FOLDERS,
    MASK_FOLDERS,
    VALIDATION_FOLDERS,
    Listing,
    Masks,
    Photograph,
    Reading,
    counted,
    examples,
    parent_and_stem,
    role_of,
)
from vqi.dataset.manifest import Split
from vqi.platform.errors import BadInput


def matches(listing: Listing) -> bool:
    """Whether there are normals in train/good (or train/normal, train/ok ...)."""
    return any(_is_train_normal(path.lower().split("/")) for path in listing.paths)


def read(listing: Listing, mask_suffix: str) -> Reading:
    """Give every photograph its split, label, defect type and mask. Raises BadInput where train/ holds no normals."""
    if not matches(listing):
        seen = f"it has {examples(listing.folders())}" if listing.folders() else "it has no folders"
        raise BadInput(f"The source has no photographs in train/good (or train/{', train/'.join(GOOD_FOLDERS[1:])}), as layout mvtec needs; {seen}.")
    # test before validation: a mask that both could claim belongs to test, unless a folder of its own says otherwise.
    order = sorted(listing.paths, key=lambda path: (path.split("/")[0].lower() in VALIDATION_FOLDERS, path))
    masks = Masks(_mask_files(listing), mask_suffix)
    photographs: list[Photograph] = []
    abnormal_train: list[str] = []
    outside: Counter[str] = Counter()
    claimed: set[str] = set()
    for path in order:
        first, _, rest = path.partition("/")
        folder, stem = parent_and_stem(rest)
        if first.lower() == "train" and rest:
            if _is_train_normal(path.lower().split("/")):
                photographs.append(Photograph(path, "train", "good", "good"))
            else:
                abnormal_train.append(path)
        elif first.lower() == "test" or first.lower() in VALIDATION_FOLDERS:
            label, defect = role_of(folder)
            split: Split = "test" if first.lower() == "test" else "validation"
            mask = None
            if label == "defect":
                mask = masks.take(f"{first}/{folder}", stem) or masks.take(folder, stem)
                if split == "validation" and mask in claimed:
                    mask = None
                claimed.add(mask or "")
            photographs.append(Photograph(path, split, label, defect, (mask,) if mask else ()))
        elif first.lower() not in MASK_FOLDERS:
            outside[first if rest else "the top folder"] += 1
    notes = masks.notes()
    if abnormal_train:
        notes.append(f"{counted(len(abnormal_train), 'photograph')} in train/ outside train/good left out: only normals are trained on.")
    if outside:
        notes.append(
            f"{counted(outside.total(), 'image file')} outside train/, test/, validation/ and ground_truth/ left out ({examples(sorted(outside))})."
        )
    return Reading(tuple(photographs), tuple(notes), listing.top)


def _is_train_normal(parts: list[str]) -> bool:
    return len(parts) >= 3 and parts[0] == "train" and parts[1] in GOOD_FOLDERS


def _mask_files(listing: Listing) -> dict[tuple[str, str], list[str]]:
    files: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in listing.paths:
        first, _, rest = path.partition("/")
        if first.lower() in MASK_FOLDERS and rest:
            files[parent_and_stem(rest)].append(path)
    return files
