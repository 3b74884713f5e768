"""The layout of MVTec AD 2: train/good, validation/good, test_public/{good,bad}, test_public/ground_truth/bad, and
test_private*, whose labels are not published: those are scored, and counted in no metric.

Heckler-Kram et al., "The MVTec AD 2 Dataset", 2025. The name of a photograph is the part's number and the light
("000_overexposed.png"): photographs of one part under several lights stay together.
"""

from __future__ import annotations

from vqi.dataset.layouts.interface import LayoutReader, LayoutSplit, Match, Options, Photograph, Reading, SourceFiles
from vqi.dataset.layouts.listing import counted, examples, parent_and_stem, role_of
from vqi.dataset.layouts.masks import assign_masks, separate_masks
from vqi.dataset.layouts.names import folder_key

_SPLITS: dict[str, LayoutSplit] = {"train": "train", "validation": "validation", "test_public": "test"}


class MVTecAD2(LayoutReader):
    """Reads the layout of MVTec AD 2."""

    name = "mvtec-ad-2"

    def detect(self, files: SourceFiles) -> Match:
        """Whether there is a folder test_public beside train/good."""
        folders = {folder_key(folder) for folder in files.listing.folders()}
        if "test_public" in folders and any(path.lower().startswith("train/good/") for path in files.listing.paths):
            return Match(0.75, "it has test_public beside train/good, as MVTec AD 2")
        return Match(0.0, "The source has no test_public beside train/good, as layout mvtec-ad-2 needs.")

    def read(self, files: SourceFiles, options: Options) -> Reading:
        """Give every photograph its split, label and masks; test_private* is unknown."""
        mask_paths, paths = separate_masks(files.listing.paths, options.mask_suffix)
        photographs, outside = [], []
        for path in paths:
            first, _, rest = path.partition("/")
            key = folder_key(first)
            folder, stem = parent_and_stem(path)
            group = f"{folder}/{stem.split('_')[0]}" if "_" in stem else ""
            if key.startswith("test_private"):
                photographs.append(Photograph(path, "test", "unknown", "unknown", group=group))
            elif key in _SPLITS and rest:
                label, defect = role_of(parent_and_stem(rest)[0])
                if key == "train" and label != "good":
                    outside.append(path)
                    continue
                photographs.append(Photograph(path, _SPLITS[key], label, defect, group=group))
            else:
                outside.append(path)
        masked = assign_masks(mask_paths, {p.path: p.label for p in photographs}, options.mask_suffix)
        notes = list(masked.notes)
        if outside:
            notes.append(
                f"{counted(len(outside), 'image file')} outside train/good, validation/, test_public/ and "
                f"test_private*/ left out ({examples(outside)})."
            )
        return Reading(masked.attach_to(photographs), tuple(notes))
