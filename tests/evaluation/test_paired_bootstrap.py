"""The paired bootstrap: exact on the photographs themselves, and its intervals hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from vqi.evaluation.metrics import Ranking
from vqi.evaluation.paired_bootstrap import Scored, compare_paired, rates_of
from vqi.platform.errors import BadInput


def detectors(seed: int, goods: int, defects: int, ability: float = 1.5, gain: float = 0.5, share: float = 0.6):
    """Scores of two detectors that agree in part; the first separates better by `gain`."""
    generator = np.random.default_rng(seed)
    defect = np.arange(goods + defects) >= goods
    common = generator.normal(size=goods + defects) * share
    own = generator.normal(size=(2, goods + defects)) * np.sqrt(1 - share**2)
    first = common + own[0] + defect * (ability + gain)
    second = common + own[1] + defect * ability
    return Scored(first, 1.2), Scored(second, 1.2), defect


def true_auroc(distance: float) -> float:
    """The chance that a normal variable of mean `distance` lies above one of mean 0, both of variance 1."""
    from math import erf

    return 0.5 * (1 + erf(distance / 2))


def test_figures_are_those_of_the_photographs() -> None:
    first, second, defect = detectors(0, 40, 30)
    first.scores[:5] = first.scores[40:45]  # ties
    result = compare_paired(first, second, defect, [""] * 70, replicates=200)
    for scored, name in ((first, "first"), (second, "second")):
        expected = Ranking(scored.scores[defect], scored.scores[~defect]).auroc
        assert getattr(result.auroc, name) == pytest.approx(expected, abs=1e-12)
        assert getattr(result.recall, name) == pytest.approx(np.mean(scored.scores[defect] > 1.2))
        assert getattr(result.false_rejects, name) == pytest.approx(np.mean(scored.scores[~defect] > 1.2))
        assert rates_of(scored, defect).auroc[0] == pytest.approx(expected, abs=1e-12)
    assert result.auroc.low < result.auroc.difference < result.auroc.high
    assert result.parts == (40, 30)


def test_the_same_seed_draws_the_same_and_equal_detectors_do_not_differ() -> None:
    first, second, defect = detectors(1, 30, 30)
    one, again, other = (compare_paired(first, second, defect, [""] * 60, seed, 300) for seed in (7, 7, 8))
    assert one == again
    assert one.auroc != other.auroc
    same = compare_paired(first, first, defect, [""] * 60, replicates=300)
    assert (same.auroc.difference, same.auroc.low, same.auroc.high) == (0, 0, 0)


def test_intervals_cover_the_true_difference_as_often_as_they_promise() -> None:
    """150 data sets whose true difference is known; 95 % +- three standard errors of that count, and a little less,
    since percentile intervals of few photographs are known to be narrow."""
    truth = true_auroc(2.0) - true_auroc(1.5)
    results = [
        compare_paired(*detectors(seed, 60, 60), [""] * 120, seed=seed, replicates=300).auroc for seed in range(150)
    ]
    covered = np.mean([result.low <= truth <= result.high for result in results])
    assert 0.90 <= covered <= 0.99
    # Pairing is what makes them narrow: apart, the difference of two independent estimates would vary more.
    spread = np.std([result.difference for result in results])
    apart = np.hypot(np.std([result.first for result in results]), np.std([result.second for result in results]))
    assert spread < 0.85 * apart
    assert np.mean([result.high - result.low for result in results]) == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_photographs_of_one_part_are_drawn_together() -> None:
    """Each part photographed four times with nearly one score: intervals as wide as those of the parts alone."""
    first, second, defect = detectors(3, 25, 25)
    few = compare_paired(first, second, defect, [""] * 50, replicates=800)
    repeated = [
        Scored(np.repeat(scored.scores, 4) + 1e-9 * np.arange(200), scored.threshold) for scored in (first, second)
    ]
    parts = [f"part {number // 4}" for number in range(200)]
    together = compare_paired(*repeated, np.repeat(defect, 4), parts, replicates=800)
    alone = compare_paired(*repeated, np.repeat(defect, 4), [""] * 200, replicates=800)
    width = few.auroc.high - few.auroc.low
    assert together.auroc.high - together.auroc.low == pytest.approx(width, rel=0.15)
    assert alone.auroc.high - alone.auroc.low < 0.65 * width
    assert together.parts == (25, 25)


@pytest.mark.parametrize(("goods", "defects"), [(0, 5), (5, 1), (1, 5)])
def test_too_few_photographs_are_refused(goods: int, defects: int) -> None:
    first, second, defect = detectors(0, goods, defects)
    with pytest.raises(BadInput, match=f"show {goods} good and {defects} defective parts; a comparison needs 2"):
        compare_paired(first, second, defect, [""] * (goods + defects))
