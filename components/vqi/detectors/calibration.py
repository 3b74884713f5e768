"""Scores of normals that a detector was not fitted on: what thresholds are made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vqi.detectors.embeddings import Embeddings
from vqi.detectors.interface import Detector, Scores
from vqi.platform.errors import BadInput
from vqi.platform.logs import logger

log = logger(__name__)

FOLDS = 10


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
        raise BadInput(f"Thresholds from refits need at least 3 normals{shown}.")
    return min(folds, distinct)


def folds_of(groups: Sequence[str], folds: int, seed: int) -> list[list[int]]:
    """The numbers of `groups`, the group of each image, in `folds`: whole groups, dealt at random from `seed`.

    Folds differ by one group at most.
    """
    members: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    of_group = list(members.values())
    order = torch.randperm(len(of_group), generator=torch.Generator().manual_seed(seed)).tolist()
    return [sorted(number for group in order[start::folds] for number in of_group[group]) for start in range(folds)]


def cross_scores(
    detector: Detector, embeddings: Embeddings, groups: Sequence[str], folds: int = FOLDS
) -> tuple[int, list[NormalScore]]:
    """What every normal scores by an index that no normal of its group is in (k folds, `Detector.left_out_scores`), and
    the number of folds used.

    `groups`: the group of each normal, such as the part it shows. Raises BadInput where there are too few groups to
    leave any out.
    """
    count, folds = embeddings.count, possible_folds(groups, folds)
    results = [NormalScore(0.0, 0.0, 0.0)] * count
    held_out_folds = folds_of(groups, folds, detector.seed)
    left_out = detector.left_out_scores(embeddings.of, held_out_folds)
    for number, (held_out, scores) in enumerate(zip(held_out_folds, left_out, strict=True), 1):
        log.info(f"calibration: {len(held_out)} normals of fold {number} of {folds}, left out")
        for position, score in zip(held_out, _normal_scores(scores), strict=True):
            results[position] = score
    return folds, results


def scored(detector: Detector, embeddings: Iterator[Tensor], index: dict[str, Tensor]) -> Iterator[NormalScore]:
    """What embedded images score."""
    return _normal_scores(detector.scores(embedding, index) for embedding in embeddings)


@torch.inference_mode()
def _normal_scores(batches: Iterable[Scores]) -> Iterator[NormalScore]:
    for image, anomaly_map in batches:
        pixels = anomaly_map.flatten(1)
        yield from map(NormalScore, image.tolist(), pixels.amax(dim=1).tolist(), pixels.median(dim=1).values.tolist())
