"""Two detectors on the same photographs: how they differ, and how sure that is.

The paired bootstrap: photographs are drawn with replacement, good and defective ones apart so that every draw has as
many of each, and both detectors are measured on each draw (Robin et al., "pROC", BMC Bioinformatics 12:77, 2011, with
its 2,000 replicates). Photographs of one part are drawn together (Field and Welsh, "Bootstrapping clustered data",
J. R. Statist. Soc. B 69, 2007). The interval is the percentile interval of the differences (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vqi.platform.errors import BadInput

REPLICATES = 2000
CONFIDENCE = 0.95
# Replicates that are computed at once: memory is bounded, and the draws are the same whatever it is.
CHUNK = 250
# Of each label, parts that are drawn: of one alone every draw is the same.
LEAST_PARTS = 2


@dataclass(frozen=True)
class Scored:
    """What one detector says of the photographs: raw scores float64 [N], and its own threshold."""

    scores: np.ndarray
    threshold: float


@dataclass(frozen=True)
class Rates:
    """Image AUROC, the share of defects found and the share of good parts rejected; arrays where there are several
    draws."""

    auroc: np.ndarray
    recall: np.ndarray
    false_rejects: np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A figure of the first detector, of the second, the first less the second, and the interval of that."""

    first: float
    second: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedComparison:
    """`parts`: how many good and how many defective ones were drawn from."""

    auroc: Estimate
    recall: Estimate
    false_rejects: Estimate
    parts: tuple[int, int]


class _Ranks:
    """The scores of one detector, sorted once for every draw."""

    def __init__(self, scored: Scored, defect: np.ndarray) -> None:
        good, bad = scored.scores[~defect], scored.scores[defect]
        self.order = np.argsort(good, kind="stable")
        ascending = good[self.order]
        self.below, self.up_to = (np.searchsorted(ascending, bad, side) for side in ("left", "right"))
        self.detected, self.rejected = bad > scored.threshold, good > scored.threshold

    def rates(self, good: np.ndarray, bad: np.ndarray) -> Rates:
        """The rates of draws that hold each photograph so often: int64 [R, goods] and [R, defects]."""
        counted = np.concatenate([np.zeros((len(good), 1), np.int64), np.cumsum(good[:, self.order], axis=1)], axis=1)
        # A good part below a defect counts whole, one with the same score half (Mann-Whitney).
        pairs = (bad * (counted[:, self.below] + counted[:, self.up_to])).sum(axis=1) / 2
        goods, defects = good.sum(axis=1), bad.sum(axis=1)
        return Rates(
            pairs / (goods * defects),
            (bad * self.detected).sum(axis=1) / defects,
            (good * self.rejected).sum(axis=1) / goods,
        )


def compare_paired(
    first: Scored,
    second: Scored,
    defect: np.ndarray,
    groups: Sequence[str],
    seed: int = 0,
    replicates: int = REPLICATES,
) -> PairedComparison:
    """Compare two detectors on photographs of which `defect`, bool [N], are defective; `groups` names the part that
    each shows ("": one of its own). Raises BadInput where there are too few parts of a label to draw from.
    """
    ranks = [_Ranks(scored, defect) for scored in (first, second)]
    units = [
        _units([group for group, bad in zip(groups, defect, strict=True) if bad == label]) for label in (False, True)
    ]
    counts = [int(unit.max(initial=-1)) + 1 for unit in units]
    if min(counts) < LEAST_PARTS:
        raise BadInput(
            f"The test photographs show {counts[0]} good and {counts[1]} defective parts; a comparison needs "
            f"{LEAST_PARTS} of each at least."
        )
    once = [np.ones((1, len(unit)), np.int64) for unit in units]
    whole = [rank.rates(once[0], once[1]) for rank in ranks]
    draws: list[list[Rates]] = [[], []]
    for good, bad in _draws(units, counts, seed, replicates):
        for rank, kept in zip(ranks, draws, strict=True):
            kept.append(rank.rates(good, bad))

    def estimate(name: str) -> Estimate:
        one, other = (float(getattr(rates, name)[0]) for rates in whole)
        drawn = [np.concatenate([getattr(rates, name) for rates in kept]) for kept in draws]
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(drawn[0] - drawn[1], [tail, 1 - tail])
        return Estimate(one, other, one - other, float(low), float(high))

    return PairedComparison(estimate("auroc"), estimate("recall"), estimate("false_rejects"), (counts[0], counts[1]))


def rates_of(scored: Scored, defect: np.ndarray) -> Rates:
    """The rates of one detector on all photographs. Raises BadInput where those of a label are missing."""
    if not defect.any() or defect.all():
        raise BadInput("The test photographs are all good or all defective; a detector is judged by some of each.")
    once = [np.ones((1, int((defect == label).sum())), np.int64) for label in (False, True)]
    return _Ranks(scored, defect).rates(once[0], once[1])


def _units(groups: Sequence[str]) -> np.ndarray:
    """The number of the part that each photograph shows, int64 [N], counted from 0."""
    numbers: dict[str, int] = {}
    named = [group or f"\0{number}" for number, group in enumerate(groups)]
    return np.array([numbers.setdefault(group, len(numbers)) for group in named], np.int64)


def _draws(
    units: Sequence[np.ndarray], counts: Sequence[int], seed: int, replicates: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """How often each good and each defective photograph is in a draw, int64 [R, N], chunk by chunk."""
    generator = np.random.default_rng(seed)
    for start in range(0, replicates, CHUNK):
        size = min(CHUNK, replicates - start)
        good, bad = (
            generator.multinomial(count, np.full(count, 1 / count), size=size)[:, unit]
            for count, unit in zip(counts, units, strict=True)
        )
        yield good, bad
