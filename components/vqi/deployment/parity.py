"""The parity gate: does the bundle say what the detector says, on real photographs, in every format, alone and in
batches?

With a reference r (torch, float32) and a value v of the bundle, the deviation is |v - r| / max(|r|, s), where s is the
scale of what is compared: for scores the median of |r| over the images, for maps the median over the images of the
largest |r| of a map. So a value near zero is held against what is usual, and one far out against itself. A decision
flips where v and r lie on different sides of the image threshold and r is further from it than rounding (ROUNDING * s):
the threshold may be the score of an image itself.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from vqi.dataset.manifest import Sample
from vqi.deployment.sidecar import Deviation
from vqi.platform.devices import Precision
from vqi.platform.errors import GateRefused

IMAGES = 12
# Chosen for what they show, fewer do.
DECISIVE = 6
BATCHES = (1, 5)
ROUNDING = 1e-5
FORMULA = "|bundle - detector| / max(|detector|, scale); scale: median |score|, median of the maps' largest |value|"
WARM_UP = 2

Reference = TypeVar("Reference")
Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class TimedRun:
    """A graph whose single images are timed while it is compared."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seconds: list[float] = []

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        started = time.perf_counter()
        results = self._run(images)
        if len(images) == 1:
            self._seconds.append(time.perf_counter() - started)
        return results

    @property
    def latency_ms(self) -> float:
        """Milliseconds that one image takes alone on this machine: the median of the images, after a warm-up where
        there are enough."""
        return round(1000 * statistics.median(self._seconds[WARM_UP:] or self._seconds), 3)


def parity_samples(
    samples: Sequence[Sample], scores: Mapping[str, float] | None = None, threshold: float = 0.0
) -> list[Sample]:
    """Half normals, half defects, from the test split as long as it has any, then from the others.

    Where evaluation left `scores` by path, they are the ones on which a difference shows first: of normals and of
    defects each the two nearest the `threshold`, whose decision flips first, and the one farthest from it. Without
    them they are spread evenly over the set.
    """
    chosen: list[Sample] = []
    count = DECISIVE if scores else IMAGES
    for group, wanted in (("defect", count // 2), ("good", count)):
        held = [s for s in samples if (s.label == "good") == (group == "good")]
        tested = [s for s in held if s.split == "test"] or held
        number = min(wanted, count - len(chosen))
        if scores and all(sample.path in scores for sample in tested):
            chosen += _decisive(tested, number, scores, threshold)
        else:
            chosen += _spread(tested, number)
    return chosen


def _decisive(samples: list[Sample], count: int, scores: Mapping[str, float], threshold: float) -> list[Sample]:
    """The `count` samples nearest the threshold, the last of them replaced by the one farthest from it."""
    ordered = sorted(samples, key=lambda sample: (abs(scores[sample.path] - threshold), sample.path))
    return ordered if len(ordered) <= count else [*ordered[: count - 1], ordered[-1]]


def _spread(samples: list[Sample], count: int) -> list[Sample]:
    if len(samples) <= count:
        return samples
    return [samples[i * len(samples) // count] for i in range(count)]


def deviations(
    reference: tuple[np.ndarray, np.ndarray], run: Run, images: np.ndarray, threshold: float
) -> Iterator[Deviation]:
    """Compare `run` with the `reference` scores [n] and maps [n, h, w] of `images` float32 [n, 3, h, w], at every batch
    size of BATCHES."""
    scores, maps = (values.astype(np.float64) for values in reference)
    score_scale = float(np.median(np.abs(scores)))
    map_scale = float(np.median(np.abs(maps).max(axis=(1, 2))))
    clear = np.abs(scores - threshold) > ROUNDING * score_scale
    for batch in BATCHES:
        parts = [run(images[start : start + batch]) for start in range(0, len(images), batch)]
        bundle_scores, bundle_maps = (
            np.concatenate([part[0] for part in parts]),
            np.concatenate([part[1] for part in parts]),
        )
        score = largest_deviation(bundle_scores, scores, score_scale)
        flipped = 0
        if np.isfinite(score):
            flipped = int(
                np.count_nonzero(((bundle_scores.astype(np.float64) > threshold) != (scores > threshold)) & clear)
            )
        yield Deviation(batch=batch, score=score, map=largest_deviation(bundle_maps, maps, map_scale), flipped=flipped)


def reference_of(precision: str, references: Mapping[Precision, Reference]) -> Reference:
    """What a graph of some precision is held against: the detector in that precision where it computed in it, else in
    float32."""
    return next((value for key, value in references.items() if key == precision), references["float32"])


def largest_deviation(values: np.ndarray, reference: np.ndarray, scale: float) -> float:
    """The largest of |values - reference| / max(|reference|, scale); infinite where the shapes differ or a value is not
    finite."""
    if values.shape != reference.shape or not np.isfinite(values).all():
        return float("inf")
    allowed = np.maximum(np.abs(reference), max(scale, float(np.finfo(np.float32).tiny)))
    return float(np.max(np.abs(values - reference) / allowed))


def judge(name: str, measured: Sequence[Deviation], tolerance: float, images: int) -> None:
    """Raise GateRefused where a deviation of the format `name` is above `tolerance` or a decision flipped."""
    for deviation in measured:
        where = f"{name} at batch {deviation.batch}"
        for what, value in (("score", deviation.score), ("map", deviation.map)):
            if not value <= tolerance:
                raise GateRefused(
                    f"The exported graph is not the detector: its {what} deviates by {value:.2g} on {where}, the "
                    f"tolerance is {tolerance:g}; no bundle was written. Look at the method's score(), raise the "
                    "tolerance if that is acceptable, or leave the format out."
                )
        if deviation.flipped:
            raise GateRefused(
                f"The exported graph decides {deviation.flipped} of {images} images differently on {where}; no bundle "
                "was written."
            )
