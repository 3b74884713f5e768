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
from vqi.detectors.interface import Detector
from vqi.platform.devices import Compute
from vqi.platform.progress import Progress


class TensorBatches:
    """The samples in order, as batches of float32 [n, 3, h, w] in [0, 1] on the CPU: what a detector calls
    ImageBatches."""

    def __init__(self, dataset: Dataset, samples: Sequence[Sample], geometry: Geometry, batch_size: int) -> None:
        self.batches = InputBatches(dataset, samples, geometry, batch_size)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self.batches:
            yield torch.from_numpy(batch)


def score_samples(
    detector: Detector, dataset: Dataset, samples: Sequence[Sample], geometry: Geometry, compute: Compute
) -> Iterator[tuple[Sample, float, np.ndarray]]:
    """Each sample with its raw image score and its anomaly map, float32 [h, w] in the network's geometry, in order.

    The detector must have been placed where `compute` says.
    """
    progress, waiting = Progress("scored", len(samples)), iter(samples)
    for batch in TensorBatches(dataset, samples, geometry, compute.batch_size):
        # Not around the yield: a generator's inference mode would leak into whoever consumes it.
        with torch.inference_mode():
            image, anomaly_map = (values.float().cpu().numpy() for values in detector(batch.to(detector.device)))
        for score, values in zip(image.tolist(), anomaly_map, strict=True):
            yield next(waiting), score, values
        progress.advance(len(batch))
