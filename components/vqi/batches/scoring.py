"""Between the Dataset and a detector: samples scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vqi.dataset.geometry import Geometry
from vqi.dataset.loading import InputBatches
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.dataset.tiling import united
from vqi.detectors.arrays import to_numpy
from vqi.detectors.indexed import Indexed
from vqi.platform.devices import Compute
from vqi.platform.progress import Progress


def score_samples(
    detector: Indexed, dataset: Dataset, samples: Sequence[Sample], geometry: Geometry, compute: Compute
) -> Iterator[tuple[Sample, float, np.ndarray]]:
    """Each sample with its raw image score and its anomaly map, float32 [h, w] of the geometry's `map_size`, in order.

    The detector must have been placed where `compute` says.
    """
    progress = Progress("scored", len(samples))
    scored = united(_scored(detector, InputBatches(dataset, samples, geometry, compute.batch_size)), geometry.tiling)
    for sample, (score, values) in zip(samples, scored, strict=True):
        yield sample, score, values
        progress.advance(1)


def _scored(detector: Indexed, batches: InputBatches) -> Iterator[tuple[float, np.ndarray]]:
    """Score and map of each image."""
    for batch in batches:
        image, anomaly_map = (to_numpy(values) for values in detector.score_images(batch))
        yield from zip(image.tolist(), anomaly_map, strict=True)
