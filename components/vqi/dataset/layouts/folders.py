"""Plain folders: normals in good/ (or normal/, ok/ ...), one folder a defect type, nested as deep as one likes; or normals alone.

Masks are optional: in a folder ground_truth/ or masks/ at any level, which mirrors the photographs' folders, or beside the photograph
with the mask suffix after its stem.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from vqi.dataset.layouts.listing import GOOD_FOLDERS, MASK_FOLDERS, Listing, Masks, Photograph, Reading, counted, examples, parent_and_stem, role_of
from vqi.platform.errors import BadInput


def matches(listing: Listing) -> bool:
    """Whether there is a folder of normals at the top, or nothing but photographs without any folder."""
    return any(folder.lower() in GOOD_FOLDERS for folder in listing.folders()) or _is_flat(listing)


def read(listing: Listing, mask_suffix: str) -> Reading:
    """Give every photograph its label, defect type and mask; normals stay undivided, everything else goes to test.

    Raises BadInput where there is no folder of normals.
    """
    if not matches(listing):
        raise BadInput(
            f"The source has no folder of normal photographs ({', '.join(GOOD_FOLDERS)}), as layout folders needs; "
            f"it has {examples(listing.folders())}."
        )
    mask_paths, photograph_paths = _apart(listing, mask_suffix)
    masks = Masks(_by_place(mask_paths, photograph_paths, mask_suffix), mask_suffix)
    notes = []
    photographs = []
    if _is_flat(listing):
        notes.append(f"The source has no folders: all {len(photograph_paths)} photographs are taken as normal.")
    unlabelled = 0
    for path in photograph_paths:
        folder, stem = parent_and_stem(path)
        label, defect = role_of(GOOD_FOLDERS[0] if _is_flat(listing) else folder)
        unlabelled += not folder and not _is_flat(listing)
        mask = masks.take(folder, stem) if label == "defect" else None
        photographs.append(Photograph(path, None if label == "good" else "test", label, defect, (mask,) if mask else ()))
    if unlabelled:
        notes.append(f"{counted(unlabelled, 'photograph')} outside any folder labelled unknown.")
    return Reading(tuple(photographs), (*notes, *masks.notes()), listing.top)


def _is_flat(listing: Listing) -> bool:
    return bool(listing.paths) and not listing.folders()


def _apart(listing: Listing, suffix: str) -> tuple[list[str], list[str]]:
    """Mask files and photographs. A name that ends in the suffix is a mask wherever it lies: trained on as a normal it would do harm."""
    masks: list[str] = []
    photographs: list[str] = []
    for path in listing.paths:
        folder, stem = parent_and_stem(path)
        in_mask_folder = any(part.lower() in MASK_FOLDERS for part in folder.split("/"))
        (masks if in_mask_folder or (suffix and stem.endswith(suffix)) else photographs).append(path)
    return masks, photographs


def _by_place(mask_paths: list[str], photograph_paths: list[str], suffix: str) -> dict[tuple[str, str], list[str]]:
    """Mask files by the folder of the photograph and the mask's stem.

    A mask that lies in a mask folder without subfolders covers the only photograph of its name.
    """
    stems = Counter(parent_and_stem(path)[1] for path in photograph_paths)
    homes = {parent_and_stem(path)[1]: parent_and_stem(path)[0] for path in photograph_paths}
    files: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in mask_paths:
        folder, stem = parent_and_stem(path)
        place = "/".join(part for part in folder.split("/") if part.lower() not in MASK_FOLDERS)
        if not place:
            bare = stem.removesuffix(suffix) if suffix else stem
            owner = bare if stems[bare] else stem
            place = homes[owner] if stems[owner] == 1 else place
        files[place, stem].append(path)
    return files
