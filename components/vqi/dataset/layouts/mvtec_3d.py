"""The photographs of MVTec 3D-AD: train/good/rgb, test/<defect>/rgb with masks in test/<defect>/gt; the positions of
points in xyz are left out.

Bergmann et al., "The MVTec 3D-AD Dataset", VISAPP 2022.
"""

from __future__ import annotations

from vqi.dataset.layouts.interface import LayoutReader, LayoutSplit, Match, Options, Photograph, Reading, SourceFiles
from vqi.dataset.layouts.listing import counted, role_of
from vqi.dataset.layouts.names import folder_key

_SPLITS: dict[str, LayoutSplit] = {"train": "train", "validation": "validation", "test": "test"}


class MVTec3D(LayoutReader):
    """Reads the photographs of MVTec 3D-AD."""

    name = "mvtec-3d"

    def detect(self, files: SourceFiles) -> Match:
        """Whether there are train/good/rgb and train/good/xyz."""
        folders = {path.rsplit("/", 1)[0].lower() for path in files.listing.paths if path.count("/") == 3}
        if {"train/good/rgb", "train/good/xyz"} <= folders:
            return Match(0.74, "it has train/good/rgb and train/good/xyz, as MVTec 3D-AD")
        return Match(0.0, "The source has no train/good/rgb and train/good/xyz, as layout mvtec-3d needs.")

    def read(self, files: SourceFiles, options: Options) -> Reading:
        """The photographs in rgb folders, each with the mask of its name in gt."""
        photographs, rest = [], 0
        for path in files.listing.paths:
            parts = path.split("/")
            split = _SPLITS.get(folder_key(parts[0]))
            if len(parts) != 4 or split is None or folder_key(parts[2]) != "rgb":
                rest += len(parts) < 3 or folder_key(parts[2]) != "gt"
                continue
            label, defect = role_of(parts[1])
            if split == "train" and label != "good":
                rest += 1
                continue
            mask = f"{parts[0]}/{parts[1]}/gt/{parts[3].rsplit('.', 1)[0]}.png"
            masks = (mask,) if label == "defect" and mask in files else ()
            photographs.append(Photograph(path, split, label, defect, masks))
        note = f"{counted(rest, 'image file')} outside of rgb/ left out (positions of points, calibration)."
        return Reading(tuple(photographs), (note,) if rest else ())
