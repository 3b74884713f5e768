"""Reading a Dataset: shards are mapped into memory and files decoded by offset; nothing is unpacked."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from vqi.dataset.extents import Extent
from vqi.dataset.geometry import Geometry
from vqi.dataset.images import decode_photograph
from vqi.dataset.manifest import Label, Manifest, MaskFile, Sample, Split, read_manifest
from vqi.dataset.masks import BLACK_BACKGROUND, MaskMeaning, decode_mask, painted_level
from vqi.dataset.scaling import Photograph
from vqi.platform.errors import BadInput

Labels = TypeVar("Labels", np.ndarray, np.ndarray | None)


class Dataset:
    """A Dataset folder opened for reading; safe to read from several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.manifest: Manifest = read_manifest(self.folder)
        self._shards: dict[str, mmap.mmap] = {}

    def samples(self, split: Split | Sequence[Split] | None = None, label: Label | None = None) -> list[Sample]:
        """The samples of one split (or several) and label, in the manifest's order."""
        splits = None if split is None else {split} if isinstance(split, str) else set(split)
        return [
            s
            for s in self.manifest.samples
            if (splits is None or s.split in splits) and (label is None or s.label == label)
        ]

    def bytes_of(self, extent: Extent) -> memoryview:
        """The file's content as it came, without a copy. Raises BadInput where the shard is missing or too short."""
        if extent.shard not in self._shards:
            if "/" in extent.shard or extent.shard.startswith("."):
                raise BadInput(
                    f"The manifest of {self.folder} names the shard {extent.shard!r} outside the Dataset; run ingest "
                    "again."
                )
            try:
                with open(self.folder / extent.shard, "rb") as file:
                    self._shards[extent.shard] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise BadInput(
                    f"The shard {self.folder / extent.shard} cannot be read ({error}); run ingest again."
                ) from error
        shard = self._shards[extent.shard]
        if min(extent.offset, extent.length) < 0 or extent.offset + extent.length > len(shard):
            raise BadInput(
                f"The shard {self.folder / extent.shard} is shorter than its manifest says; run ingest again."
            )
        return memoryview(shard)[extent.offset : extent.offset + extent.length]

    def image(self, sample: Sample) -> np.ndarray:
        """The photograph as RGB, uint8 [H, W, 3]. Raises BadInput where it cannot be decoded."""
        return self.photograph(sample).pixels

    def photograph(self, sample: Sample) -> Photograph:
        """The photograph and what decoding it showed. Raises BadInput where it cannot be decoded."""
        return decode_photograph(self.bytes_of(sample.image), sample.path, self.manifest.decoding)

    def inputs(self, sample: Sample, geometry: Geometry) -> np.ndarray:
        """What the network sees of a photograph, uint8 [T, h, w, 3]: its tiles, or one image; raises as `seen` does."""
        return geometry.cut(self.seen(sample, geometry))

    def one_input(self, sample: Sample, geometry: Geometry) -> np.ndarray:
        """One image that stands for a photograph, uint8 [h, w, 3]: the tile with the most of its defect, or the middle
        one; all of it where it is not cut."""
        seen = self.seen(sample, geometry)
        if geometry.tiling is None:
            return seen
        mask = self.aligned_labels(sample, self.mask(sample))
        return geometry.tiling.cut_one(
            seen, geometry.tiling.most_marked(None if mask is None else geometry.apply_mask(mask))
        )

    def seen(self, sample: Sample, geometry: Geometry) -> np.ndarray:
        """A photograph before it is cut, uint8 [h, w, 3] of `map_size`; what lies below the region of interest, and the
        area, is not decoded where the codec can stop.

        Raises BadInput where the photograph cannot be decoded, or the region reaches outside it.
        """
        moved = sample.alignment is not None and sample.alignment.matrix is not None
        rows = math.ceil(geometry.reach[1]) if geometry.region and not moved else None
        photograph = decode_photograph(self.bytes_of(sample.image), sample.path, self.manifest.decoding, rows)
        return geometry.apply(self.aligned(sample, photograph.pixels))

    def aligned(self, sample: Sample, pixels: np.ndarray) -> np.ndarray:
        """A photograph's pixels, uint8 [H, W, 3], in the reference's place, where the set has one."""
        reference = self.manifest.reference
        return reference.apply(sample.alignment, pixels) if reference and sample.alignment else pixels

    def aligned_labels(self, sample: Sample, labels: Labels) -> Labels:
        """Labels or a mask of a photograph, [H, W], in the reference's place; None stays None."""
        return labels if labels is None or sample.alignment is None else sample.alignment.apply_labels(labels)

    def original_map(self, sample: Sample, values: np.ndarray) -> np.ndarray:
        """A map of the reference's place, float32 [H, W], brought to the photograph; NaN where it has no value."""
        return sample.alignment.invert_map(values) if sample.alignment else values

    def mask(self, sample: Sample) -> np.ndarray | None:
        """The defect mask, bool [H, W] (True = defect in any of the sample's masks), or None where the sample has none.

        Raises BadInput where one cannot be decoded, or where they differ in size.
        """
        return self._united(sample.masks)

    def outlines(self, sample: Sample) -> np.ndarray | None:
        """The mask of the defects whose shape is known, bool [H, W]: without those drawn as boxes; None where there are
        none. Raises as `mask` does."""
        return self._united([file for file in sample.masks if file.kind != "box"])

    def boxed(self, sample: Sample) -> np.ndarray | None:
        """What lies in a defect's box, bool [H, W], or None where no defect is drawn as one; raises as `mask` does."""
        return self._united([file for file in sample.masks if file.kind == "box"])

    def saturated_regions(self, sample: Sample) -> list[tuple[np.ndarray, float]]:
        """The regions of sPRO, a mask file each: bool [H, W], and the share from which on it counts as found whole (1.0
        where the source has no rule for what it is painted with); empty where the source has no rules. Raises as `mask`
        does."""
        rules = {rule.value: rule for rule in self.manifest.saturation}
        regions: list[tuple[np.ndarray, float]] = []
        for mask, value in self.painted_regions(sample) if rules else ():
            rule = rules.get(value)
            regions.append((mask, rule.share(int(np.count_nonzero(mask))) if rule else 1.0))
        return regions

    def painted_regions(self, sample: Sample) -> list[tuple[np.ndarray, int]]:
        """The mask files of a sample that mark anything, one by one: bool [H, W], and the grey level that most of it is
        painted with (0: a colour). Raises as `mask` does."""
        regions = []
        for file in sample.masks:
            mask = self._united([file])
            if mask is not None and mask.any():
                regions.append((mask, painted_level(self.bytes_of(file.extent), file.path, self.meaning_of(file))))
        return regions

    def ignored(self, sample: Sample) -> np.ndarray | None:
        """What counts neither as defect nor as good, bool [H, W], or None where nothing is; raises as `mask` does."""
        return self._united(sample.ignore)

    def meaning_of(self, file: MaskFile) -> MaskMeaning:
        """How the values of a mask become defect."""
        return self.manifest.mask_meaning if file.kind == "file" else BLACK_BACKGROUND

    def _united(self, files: Sequence[MaskFile]) -> np.ndarray | None:
        united: np.ndarray | None = None
        for file in files:
            most = self.manifest.decoding.max_pixels
            mask = decode_mask(self.bytes_of(file.extent), file.path, self.meaning_of(file), most)
            if united is not None and united.shape != mask.shape:
                raise BadInput(
                    f"The mask {file.path} has {mask.shape[1]} x {mask.shape[0]} pixels and {files[0].path}, "
                    "of the same photograph, "
                    f"{united.shape[1]} x {united.shape[0]}; save masks at the photograph's size."
                )
            united = mask if united is None else united | mask
        return united
