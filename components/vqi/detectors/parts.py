"""Indices that are fitted in parts: several tasks keep, each of its own normals, what stands for them; one task fits
the index to what they kept.

The bound for a memory bank. A part with the patches P_i keeps the greedy k-center coreset C_i: every patch of P_i lies
within r_i of C_i. The bank is the greedy k-center coreset of the union of all C_i: every item of the union lies within
r of the bank. So no patch lies farther than max r_i + r from the bank (triangle inequality), which is measured and kept
in the index's notes. Where every part keeps as many items as the bank has, that is at most 4 times the radius of the
best possible bank of that size, and so at most 4 times the radius of the bank of a single task: each of the two greedy
selections has at most twice the best radius for as many centres (Gonzalez, Theoretical Computer Science 38, 1985;
composed as in Malkomes et al., "Fast Distributed k-Center Clustering with Outliers on Massive Data", NIPS 2015).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from vqi.detectors.arrays import Array
from vqi.detectors.calibration import WHOLE, NormalScore, Photographs, folds_of, possible_folds, scored
from vqi.detectors.embeddings import Embeddings
from vqi.detectors.indexed import Indexed
from vqi.platform.logs import logger

log = logger(__name__)


class Coreset(NamedTuple):
    """Items that stand for the normals they were chosen from: float32 [m, C], in the order they were chosen; none of
    the normals' patches is farther than `radius` from them."""

    items: Array
    radius: float


class FitsInParts(Indexed, ABC):
    """A method whose index can be fitted to what stands for parts of the normals."""

    @abstractmethod
    def fit_part(self, embeddings: Iterable[Array], images: int, all_images: int, folds: int = 1) -> list[Coreset]:
        """What stands for `images` of `all_images` normals, whose embeddings come in batches. Where refits are to leave
        out one of `folds`, the images are those of one fold."""

    @abstractmethod
    def fit_union(self, coresets: Sequence[Coreset], images: int) -> dict[str, Array]:
        """The index of `images` normals from the coresets of all of them; does not change `self` but for its
        `build_notes`."""


def bounds_of_shards(count: int, shards: int) -> list[tuple[int, int]]:
    """First and one past last of `count` normals for each of `shards`: consecutive ones, which lie beside each other in
    the Dataset's files; sizes differ by one at most."""
    edges = [count * number // shards for number in range(shards + 1)]
    return list(pairwise(edges))


def fit_shard(
    detector: FitsInParts,
    embedded: Callable[[Sequence[int]], Iterator[Array]],
    numbers: Sequence[int],
    fold_of: Sequence[int],
) -> list[list[Coreset]]:
    """What stands for the normals of those numbers, for each fold; `fold_of` is the fold of every normal, 0 for all
    where no refits are to come, and `embedded` gives the embeddings of normals."""
    folds = max(fold_of, default=0) + 1
    members = [[number for number in numbers if fold_of[number] == fold] for fold in range(folds)]
    return [detector.fit_part(embedded(each), len(each), len(fold_of), folds) if each else [] for each in members]


def folds_by_normal(groups: Sequence[str], seed: int) -> list[int]:
    """The fold of every normal, as refits deal them. Raises BadInput where there are too few groups for refits."""
    fold_of = [0] * len(groups)
    for fold, members in enumerate(folds_of(groups, possible_folds(groups), seed)):
        for number in members:
            fold_of[number] = fold
    return fold_of


def cross_scores_of_parts(
    detector: FitsInParts,
    embeddings: Embeddings,
    coresets: Sequence[Sequence[Coreset]],
    fold_of: Sequence[int],
    photographs: Photographs = WHOLE,
) -> list[NormalScore]:
    """What every normal scores by an index that no normal of its fold is in, fitted to the coresets of the others;
    `coresets` are those of each fold."""
    results = [NormalScore(0.0, 0.0, 0.0)] * (embeddings.count // photographs.images)
    notes = list(detector.build_notes)  # of the index itself, not of refits
    for fold in range(len(coresets)):
        held_out = [number for number, each in enumerate(fold_of) if each == fold]
        left = embeddings.count - len(held_out)
        log.info(f"calibration: refit {fold + 1} of {len(coresets)} on what stands for {left} normals")
        others = [coreset for number, each in enumerate(coresets) if number != fold for coreset in each]
        numbers = photographs.of(held_out)
        scores = scored(detector, embeddings.of(held_out), detector.fit_union(others, left), photographs, numbers)
        for position, score in zip(numbers, scores, strict=True):
            results[position] = score
    detector.build_notes = notes
    return results
