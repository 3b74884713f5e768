"""Metrics against scikit-learn and against definitions written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as reference

from example_results import confusion as counted
from vqi.evaluation.metrics import Confusion, Ranking, roc_curve


def scores(seed: int, positives: int, negatives: int, levels: int | None) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    positive, negative = random.normal(0.7, 1, positives), random.normal(0, 1, negatives)
    if levels:
        positive, negative = np.round(positive * levels) / levels, np.round(negative * levels) / levels
    return positive.astype(np.float32), negative.astype(np.float32)


@pytest.mark.parametrize("levels", [None, 5, 1])
@pytest.mark.parametrize(("positives", "negatives"), [(200, 300), (1, 50), (50, 1), (1, 1), (3000, 20)])
@pytest.mark.parametrize("seed", [0, 1])
def test_ranking_agrees_with_scikit_learn(seed: int, positives: int, negatives: int, levels: int | None) -> None:
    positive, negative = scores(seed, positives, negatives, levels)
    truth, values = np.r_[np.ones(positives), np.zeros(negatives)], np.r_[positive, negative]
    ranking = Ranking(positive, negative)
    assert ranking.auroc == pytest.approx(reference.roc_auc_score(truth, values), abs=1e-12)
    assert ranking.average_precision == pytest.approx(reference.average_precision_score(truth, values), abs=1e-12)
    precision, recall, _ = reference.precision_recall_curve(truth, values)
    f1 = np.divide(2 * precision * recall, precision + recall, out=np.zeros_like(recall), where=precision + recall > 0)
    assert ranking.f1_max == pytest.approx(f1.max(), abs=1e-12)


def test_ties_count_half() -> None:
    assert Ranking(np.array([1.0, 1.0]), np.array([1.0, 1.0, 1.0])).auroc == 0.5
    assert Ranking(np.array([2.0, 1.0]), np.array([1.0, 0.0])).auroc == 3.5 / 4


def test_negative_zero_ties_with_zero() -> None:
    assert Ranking(np.array([0.0]), np.array([-0.0])).auroc == 0.5


def test_scores_of_very_different_scale_keep_their_order() -> None:
    assert Ranking(np.array([1e30, 1e-30]), np.array([1e-31, -1e30])).auroc == 1.0


@pytest.mark.parametrize(("positive", "negative"), [([], [1.0]), ([1.0], []), ([], [])])
def test_a_missing_class_has_no_metric(positive: list[float], negative: list[float]) -> None:
    ranking = Ranking(np.array(positive), np.array(negative))
    assert (ranking.auroc, ranking.average_precision, ranking.f1_max) == (None, None, None)
    assert roc_curve(np.array(positive), np.array(negative)) == []


@pytest.mark.parametrize("levels", [None, 3])
def test_roc_rows_are_the_rates_of_the_strict_decision(levels: int | None) -> None:
    positive, negative = scores(3, 40, 60, levels)
    rows = roc_curve(positive, negative)
    assert rows[0][:2] == [0, 0]
    assert rows[-1][:2] == [1, 1]
    for false_rate, true_rate, threshold in rows:
        assert false_rate == np.mean(negative.astype(np.float64) > threshold)
        assert true_rate == np.mean(positive.astype(np.float64) > threshold)
    array = np.array(rows)
    assert np.trapezoid(array[:, 1], array[:, 0]) == pytest.approx(Ranking(positive, negative).auroc, abs=1e-12)


def test_roc_is_thinned_and_finite() -> None:
    positive, negative = scores(4, 5000, 5000, None)
    rows = roc_curve(positive, negative)
    assert 150 < len(rows) <= 200
    assert all(math.isfinite(value) for row in rows for value in row)
    assert rows[0][:2] == [0, 0]
    assert rows[-1][:2] == [1, 1]
    array = np.array(rows)
    assert np.trapezoid(array[:, 1], array[:, 0]) == pytest.approx(Ranking(positive, negative).auroc, abs=2e-3)


def test_roc_of_one_score_everywhere() -> None:
    rows = roc_curve(np.ones(3), np.ones(4))
    assert [row[:2] for row in rows] == [[0, 0], [1, 1]]


def test_confusion_agrees_with_scikit_learn() -> None:
    positive, negative = scores(5, 80, 120, 4)
    confusion = Confusion.at(0.5, positive, negative)
    truth = np.r_[np.ones(80), np.zeros(120)].astype(int)
    decided = (np.r_[positive, negative] > 0.5).astype(int)
    (tn, fp), (fn, tp) = reference.confusion_matrix(truth, decided)
    assert confusion == counted(int(tp), int(fp), int(tn), int(fn))
    assert confusion.accuracy == pytest.approx(reference.accuracy_score(truth, decided))
    assert confusion.balanced_accuracy == pytest.approx(reference.balanced_accuracy_score(truth, decided))
    assert confusion.recall == pytest.approx(reference.recall_score(truth, decided))
    assert confusion.precision == pytest.approx(reference.precision_score(truth, decided))
    assert confusion.dice == pytest.approx(reference.f1_score(truth, decided))
    assert confusion.iou == pytest.approx(reference.jaccard_score(truth, decided))
    assert confusion.mean_iou == pytest.approx(reference.jaccard_score(truth, decided, average="macro"))
    assert confusion.kappa == pytest.approx(reference.cohen_kappa_score(truth, decided))
    assert confusion.false_reject_rate == pytest.approx(fp / 120)


def test_a_score_at_the_threshold_is_good() -> None:
    assert Confusion.at(1.0, np.array([1.0, 1.1]), np.array([1.0])) == counted(1, 0, 1, 1)


def test_good_parts_alone_leave_what_needs_defects_empty() -> None:
    confusion = Confusion.at(1.0, np.array([]), np.array([0.0, 2.0]))
    assert confusion.accuracy == 0.5
    assert confusion.false_reject_rate == 0.5
    assert confusion.recall is None
    assert confusion.balanced_accuracy is None
    assert counted(0, 0, 0, 0).accuracy is None
    assert counted(0, 0, 5, 0).kappa is None


@pytest.mark.parametrize("times", [1, 2**20, 2**33])
def test_auroc_is_exact_beyond_64_bits(times: int) -> None:
    """The same ranking with every score repeated `times` times has the same AUROC; its sum of pairs needs up to 75
    bits.
    """
    random = np.random.default_rng(0)
    ranking = Ranking(random.integers(3, 9, 40), random.integers(0, 8, 50))
    exact = ranking.auroc
    ranking.positives, ranking.negatives = ranking.positives * times, ranking.negatives * times
    for name in ("counts", "true_positives", "false_positives", "false_positives_above"):
        setattr(ranking, name, getattr(ranking, name) * times)
    assert ranking.auroc == exact
    assert 0.5 < exact < 1
    assert ranking.average_precision is not None
    assert 0 < ranking.average_precision <= 1
