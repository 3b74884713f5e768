"""Metrics of raw scores, exact with ties. The positive class is the defect everywhere, and a higher score is more
anomalous.

A metric that is not defined (one class is missing) is None, never NaN.
"""

from __future__ import annotations

import numpy as np

from vqi.platform.records import Record

# The parts of a sum stay within int64 for up to 2^40 positives and as many negatives.
_HALF = 1 << 21


class Ranking:
    """Scores of positives against negatives, sorted once for every metric that depends on their order alone.

    Only the positives' own score levels matter: between two of them a ROC curve is flat, so tens of millions of
    negatives cost one sort and a few binary searches. `levels` are the distinct positive scores, descending, [L];
    `true_positives` counts the positives at or above each, `false_positives` the negatives at or above it,
    `false_positives_above` the negatives strictly above it, all int64 [L].
    """

    def __init__(self, positive: np.ndarray, negative: np.ndarray, *, negative_sorted: bool = False) -> None:
        """Scores of any shape and finite; `negative_sorted` says that `negative` is ascending already, so that several
        rankings may share it."""
        positive, negative = np.ravel(positive), np.ravel(negative)
        ascending = negative if negative_sorted else np.sort(negative)
        levels, members, counts = np.unique(positive, return_inverse=True, return_counts=True)
        self.positives, self.negatives = int(positive.size), int(ascending.size)
        self.levels = levels[::-1]
        self.members: np.ndarray = levels.size - 1 - members
        self.counts: np.ndarray = counts[::-1].astype(np.int64)
        self.true_positives = np.cumsum(self.counts)
        self.false_positives = self.negatives - np.searchsorted(ascending, self.levels, "left").astype(np.int64)
        self.false_positives_above = self.negatives - np.searchsorted(ascending, self.levels, "right").astype(np.int64)

    @property
    def auroc(self) -> float | None:
        """Area under the ROC curve: the chance that a positive scores above a negative, a tie counting half
        (Mann-Whitney)."""
        if not self.positives or not self.negatives:
            return None
        # Whole numbers up to the last step: no rounding. Their sum leaves 64 bits above some 4.3e9 pixels, so it is
        # taken in two parts.
        below = 2 * self.negatives - self.false_positives - self.false_positives_above
        high, low = np.divmod(below, _HALF)
        doubled = int(np.sum(self.counts * high)) * _HALF + int(np.sum(self.counts * low))
        return doubled / (2 * self.positives * self.negatives)

    @property
    def average_precision(self) -> float | None:
        """Area under the precision-recall curve as a step function: sum of precision at each level times the recall it
        adds."""
        if not self.positives or not self.negatives:
            return None
        precision = self.true_positives / (self.true_positives + self.false_positives)
        return min(1.0, float(np.sum(precision * self.counts)) / self.positives)

    @property
    def f1_max(self) -> float | None:
        """The best F1 any threshold reaches. It looks at the labels: a bound for comparison, not what a user will
        get."""
        if not self.positives or not self.negatives:
            return None
        return float(np.max(2 * self.true_positives / (self.true_positives + self.false_positives + self.positives)))


def roc_curve(positive: np.ndarray, negative: np.ndarray, points: int = 200) -> list[list[float]]:
    """The ROC curve from (0, 0) to (1, 1) as at most `points` rows [false-positive rate, true-positive rate,
    threshold], all finite.

    A row holds the rates of the decision `score > threshold`. Points on a straight line are left out first; where more
    than `points` remain, they are thinned evenly along the curve. Empty where a class is missing.
    """
    positive, negative = np.ravel(positive).astype(np.float64), np.ravel(negative).astype(np.float64)
    if not positive.size or not negative.size:
        return []
    levels = np.unique(np.concatenate([positive, negative]))[::-1]
    # The last threshold lies just below the lowest score, so that everything is above it.
    thresholds = np.append(levels, np.nextafter(levels[-1], -np.inf))
    false = negative.size - np.searchsorted(np.sort(negative), thresholds, "right")
    true = positive.size - np.searchsorted(np.sort(positive), thresholds, "right")
    step_false, step_true = np.diff(false), np.diff(true)
    bends = np.concatenate([[True], step_false[1:] * step_true[:-1] != step_false[:-1] * step_true[1:], [True]])
    rows = np.stack([false[bends] / negative.size, true[bends] / positive.size, thresholds[bends]], axis=1)
    if len(rows) > points:
        travelled = rows[:, 0] + rows[:, 1]
        nearest = np.searchsorted(travelled, np.linspace(0, travelled[-1], points))
        rows = rows[np.unique(np.minimum(nearest, len(rows) - 1))]
    return [[float(value) for value in row] for row in rows]


class Confusion(Record):
    """Counts of decisions; the positive class is the defect. As a record it is a part of others."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int

    @staticmethod
    def at(threshold: float, positive: np.ndarray, negative: np.ndarray) -> Confusion:
        """The counts of the decision `score > threshold` (strictly)."""
        detected, rejected = int(np.count_nonzero(positive > threshold)), int(np.count_nonzero(negative > threshold))
        return Confusion(
            true_positive=detected,
            false_positive=rejected,
            true_negative=int(np.size(negative)) - rejected,
            false_negative=int(np.size(positive)) - detected,
        )

    @property
    def defects(self) -> int:
        """All positives."""
        return self.true_positive + self.false_negative

    @property
    def good(self) -> int:
        """All negatives."""
        return self.false_positive + self.true_negative

    @property
    def total(self) -> int:
        return self.defects + self.good

    @property
    def accuracy(self) -> float | None:
        return _ratio(self.true_positive + self.true_negative, self.total)

    @property
    def recall(self) -> float | None:
        """The share of positives that is found."""
        return _ratio(self.true_positive, self.defects)

    @property
    def precision(self) -> float | None:
        """The share of positives among what is found."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def false_reject_rate(self) -> float | None:
        """The share of negatives that is called positive."""
        return _ratio(self.false_positive, self.good)

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of the recalls of the two classes."""
        recall, rejected = self.recall, self.false_reject_rate
        return None if recall is None or rejected is None else (recall + 1 - rejected) / 2

    @property
    def dice(self) -> float | None:
        """2 TP / (2 TP + FP + FN): F1 of images, Dice of pixels."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)

    @property
    def iou(self) -> float | None:
        """Intersection over union of the positive class."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive + self.false_negative)

    @property
    def mean_iou(self) -> float | None:
        """Mean over both classes of intersection over union."""
        background = _ratio(self.true_negative, self.true_negative + self.false_positive + self.false_negative)
        return None if self.iou is None or background is None else (self.iou + background) / 2

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa: agreement beyond what the class frequencies alone would give; None where these leave no
        room."""
        predicted, truth = self.true_positive + self.false_positive, self.true_positive + self.false_negative
        # Both sides times total^2 keep the sums in whole numbers.
        chance = predicted * truth + (self.total - predicted) * (self.total - truth)
        return _ratio(self.total * (self.true_positive + self.true_negative) - chance, self.total**2 - chance)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
