"""Images by number for the training loop: decoded once, kept as bytes within a stated memory limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from vqi.dataset.geometry import Geometry, to_input
from vqi.dataset.images import decode_rgb
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.dataset.sources import open_source
from vqi.platform.errors import BadInput
from vqi.platform.logs import logger
from vqi.platform.memory import MIB, available_memory

log = logger(__name__)

# What decoded images may take at most, bytes, and of the memory that is free.
MOST_MEMORY, MEMORY_SHARE = 8 * 2**30, 0.25
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class DecodedImages:
    """What the network sees of `count` pictures, `tiles` images of each. `decode(number)` gives those of one, uint8
    [tiles, h, w, 3]; the first pictures that fit into `memory` bytes are decoded once.

    Images are numbered picture by picture; `labels`, int64 [count * tiles], 1 = defect.
    """

    def __init__(
        self,
        decode: Callable[[int], np.ndarray],
        count: int,
        size: tuple[int, int],
        labels: Tensor | None = None,
        memory: int | None = None,
        tiles: int = 1,
    ) -> None:
        self.decode, self.count, self.size, self.labels, self.tiles = decode, count, size, labels, tiles
        allowed = min(MOST_MEMORY, int(MEMORY_SHARE * available_memory())) if memory is None else memory
        each = 3 * size[0] * size[1] * tiles
        self.kept: list[np.ndarray | None] = [None] * min(count, allowed // each)
        held = f"all {count}" if len(self.kept) == count else f"{len(self.kept)} of {count}"
        log.info(f"training images: {held} stay decoded in memory, {len(self.kept) * each / MIB:.0f} MiB")
        if tiles > 1 and len(self.kept) < count:
            log.warning("training images: each tile of the others takes the decoding of its whole photograph")

    def __len__(self) -> int:
        return self.count * self.tiles

    def load(self, numbers: Sequence[int]) -> Tensor:
        """float32 [n, 3, h, w] in [0, 1]. Two threads that ask for the same image at once both decode it, to the same
        bytes."""
        seen = (self._picture(number // self.tiles)[number % self.tiles] for number in numbers)
        return torch.from_numpy(np.stack([to_input(image) for image in seen]))

    def _picture(self, number: int) -> np.ndarray:
        if number >= len(self.kept):
            return self.decode(number)
        kept = self.kept[number]
        if kept is None:
            kept = self.kept[number] = self.decode(number)
        return kept


def dataset_images(
    dataset: Dataset, samples: Sequence[Sample], geometry: Geometry, labelled: bool = False
) -> DecodedImages:
    """The samples' images; `labelled` adds their labels (1 = defect).

    A tile is a defect where the mask of its photograph marks a pixel of it. Raises BadInput where a photograph of a
    defect is cut and has no mask.
    """
    labels = None
    if labelled:
        labels = torch.tensor([label for sample in samples for label in _labels(dataset, sample, geometry)])
    return DecodedImages(
        lambda number: dataset.inputs(samples[number], geometry),
        len(samples),
        geometry.input_size,
        labels,
        tiles=geometry.inputs,
    )


def _labels(dataset: Dataset, sample: Sample, geometry: Geometry) -> list[int]:
    """The label of each image that the network sees of a sample."""
    tiling = geometry.tiling
    if tiling is None or sample.label != "defect":
        return [int(sample.label == "defect")] * geometry.inputs
    mask = dataset.mask(sample)
    if mask is None:
        raise BadInput(
            f"{sample.path} has no mask, so it cannot be said which of its tiles show the defect; draw one, leave "
            "image.tile empty, or choose a method that learns from good parts alone."
        )
    return [int(tile.any()) for tile in tiling.cut(geometry.apply_mask(dataset.aligned_labels(sample, mask)))]


def source_images(source: str, geometry: Geometry, key: str) -> Iterator[DecodedImages]:
    """The pictures of a folder, archive or s3:// prefix, for as long as the generator is held open (an archive is
    unpacked meanwhile).

    Raises BadInput naming `key` where there are none.
    """
    whole = Geometry(size=geometry.input_size)  # a region or crop is the product's affair
    with open_source(source) as origin:
        files = origin.files
        names = sorted(name for name in files if name.lower().endswith(PICTURES))
        if not names:
            raise BadInput(f"{key} is {source!r}, which has no pictures ({', '.join(PICTURES)}).")
        yield DecodedImages(
            lambda number: whole.cut(whole.apply(decode_rgb(files[names[number]].read_bytes(), names[number]))),
            len(names),
            whole.size,
        )
