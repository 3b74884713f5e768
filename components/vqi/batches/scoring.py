"""Between the Dataset and a detector: batches as tensors, and samples scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from vqi.dataset.geometry import Geometry
from vqi.dataset.loading import InputBatches
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.dataset.tiling import united
from vqi.detectors.interface import Detector
from vqi.platform.devices import Compute
from vqi.platform.progress import Progress


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


def score_samples(
    detector: Detector, dataset: Dataset, samples: Sequence[Sample], geometry: Geometry, compute: Compute
) -> Iterator[tuple[Sample, float, np.ndarray]]:
    """Each sample with its raw image score and its anomaly map, float32 [h, w] of the geometry's `map_size`, in order.

    The detector must have been placed where `compute` says.
    """
    progress = Progress("scored", len(samples))
    scored = united(_scored(detector, TensorBatches(dataset, samples, geometry, compute.batch_size)), geometry.tiling)
    for sample, (score, values) in zip(samples, scored, strict=True):
        yield sample, score, values
        progress.advance(1)


def _scored(detector: Detector, batches: TensorBatches) -> Iterator[tuple[float, np.ndarray]]:
    """Score and map of each image."""
    for batch in batches:
        # Not around the yield: a generator's inference mode would leak into whoever consumes it.
        with torch.inference_mode():
            image, anomaly_map = (values.float().cpu().numpy() for values in detector(batch.to(detector.device)))
        yield from zip(image.tolist(), anomaly_map, strict=True)
