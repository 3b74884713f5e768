"""The Dataset's images as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vqi.dataset.geometry import Geometry
from vqi.dataset.loading import InputBatches
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset


class TensorBatches:
    """The samples in order, their tiles where they are cut, as batches of float32 [n, 3, h, w] in [0, 1] on the CPU:
    what a detector calls ImageBatches."""

    def __init__(
        self,
        dataset: Dataset,
        samples: Sequence[Sample],
        geometry: Geometry,
        batch_size: int,
        numbers: Sequence[int] | None = None,
    ) -> None:
        """`numbers`: which of all images of the samples; None for all."""
        self.batches = InputBatches(dataset, samples, geometry, batch_size, numbers=numbers)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self.batches:
            yield torch.from_numpy(batch)
