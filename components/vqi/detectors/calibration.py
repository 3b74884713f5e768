"""Scores of normals that a detector was not fitted on: what thresholds are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vqi.detectors.arrays import Array, to_numpy
from vqi.detectors.embeddings import Embeddings
from vqi.detectors.indexed import Indexed, Scores
from vqi.platform.errors import BadInput
from vqi.platform.logs import logger

log = logger(__name__)

FOLDS = 10


class Photographs(NamedTuple):
    """How the images that a network sees become photographs: `images` consecutive ones each.

    `unite(scored, numbers)` gives score and map of the photographs of those numbers from what their images scored, one
    after the other, NaN where a map does not count.
    """

    images: int
    unite: Callable[[Iterator[tuple[float, np.ndarray]], Sequence[int]], Iterator[tuple[float, np.ndarray]]]

    def of(self, numbers: Sequence[int]) -> list[int]:
        """The numbers of the photographs of images, whole photographs in order."""
        return [number // self.images for number in numbers[:: self.images]]


# Each image is a photograph, and all of its map counts.
WHOLE = Photographs(1, lambda scored, numbers: scored)


class NormalScore(NamedTuple):
    """What a normal scores: the image, and the maximum and the median of its map."""

    score: float
    map_max: float
    map_median: float


def possible_folds(groups: Sequence[str], folds: int = FOLDS) -> int:
    """How many folds those groups make, `folds` at most. Raises BadInput where there are too few groups to leave any
    out."""
    count, distinct = len(groups), len(set(groups))
    if distinct < 3:
        shown = f"; there are {count}" if distinct == count else f" of different parts; {count} show {distinct}"
        raise BadInput(f"Thresholds from folds need at least 3 normals{shown}.")
    return min(folds, distinct)


def folds_of(groups: Sequence[str], folds: int, seed: int) -> list[list[int]]:
    """The numbers of `groups`, the group of each image, in `folds`: whole groups, dealt at random from `seed`.

    Folds differ by one group at most.
    """
    members: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    of_group = list(members.values())
    order = shuffled(len(of_group), seed)
    return [sorted(number for group in order[start::folds] for number in of_group[group]) for start in range(folds)]


def shuffled(count: int, seed: int) -> list[int]:
    """The numbers below `count` in a random order: what torch.randperm gives for that seed of its generator, without
    torch."""
    order = list(range(count))
    # Both are MT19937 seeded alike, and draw 32 bits.
    random = np.random.RandomState(seed & 0xFFFFFFFF).randint(0, 2**32, size=max(count - 1, 0), dtype=np.uint32)
    for number, value in enumerate(random.tolist()):
        other = number + value % (count - number)
        order[number], order[other] = order[other], order[number]
    return order


def cross_scores(
    detector: Indexed,
    embeddings: Embeddings,
    groups: Sequence[str],
    folds: int = FOLDS,
    photographs: Photographs = WHOLE,
) -> tuple[int, list[NormalScore]]:
    """What every normal scores by an index that no normal of its group is in (k folds, `Detector.left_out_scores`), and
    the number of folds used.

    `groups`: the group of each image, such as the part it shows. Raises BadInput where there are too few groups to
    leave any out.
    """
    count, folds = embeddings.count, possible_folds(groups, folds)
    results = [NormalScore(0.0, 0.0, 0.0)] * (count // photographs.images)
    held_out_folds = folds_of(groups, folds, detector.seed)
    left_out = detector.left_out_scores(embeddings.of, held_out_folds)
    for number, (held_out, scores) in enumerate(zip(held_out_folds, left_out, strict=True), 1):
        numbers = photographs.of(held_out)
        log.info(f"calibration: {len(numbers)} normals of fold {number} of {folds}, left out")
        for position, score in zip(numbers, _normal_scores(scores, photographs, numbers), strict=True):
            results[position] = score
    return folds, results


def scored(
    detector: Indexed,
    embeddings: Iterable[Array],
    index: dict[str, Array],
    photographs: Photographs = WHOLE,
    numbers: Sequence[int] = (),
) -> Iterator[NormalScore]:
    """What embedded images score; of `photographs` that several images make up, those of `numbers`."""
    return _normal_scores(detector.scores_by(embeddings, index), photographs, numbers)


def _normal_scores(
    batches: Iterable[Scores], photographs: Photographs, numbers: Sequence[int]
) -> Iterator[NormalScore]:
    if photographs is not WHOLE:
        for score, values in photographs.unite(_image_scores(batches), numbers):
            yield _normal_score(score, values[~np.isnan(values)])
        return
    for score, values in _image_scores(batches):
        yield _normal_score(score, values.ravel())


def _normal_score(score: float, pixels: np.ndarray) -> NormalScore:
    """Of two medians the lower one, which is a pixel's."""
    middle = (len(pixels) - 1) // 2
    return NormalScore(score, float(pixels.max()), float(np.partition(pixels, middle)[middle]))


def _image_scores(batches: Iterable[Scores]) -> Iterator[tuple[float, np.ndarray]]:
    for image, anomaly_map in batches:
        yield from zip(image.tolist(), to_numpy(anomaly_map), strict=True)
