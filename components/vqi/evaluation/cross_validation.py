"""The record of a cross-validation: what a supervised method would do on photographs like those it learns from."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

import numpy as np

from vqi.evaluation.metrics import Confusion
from vqi.platform.records import Items, Record


class CrossValidation(Record):
    """`accuracy`: the mean over the folds of `accuracies`. `balanced_accuracy` and `confusion` are of all photographs
    together, each judged by the network that had not learnt from it, at the classifier's own boundary: defect, the
    positive class, is a score above 0.
    """

    folds: int
    photographs: int
    positive_class: Literal["defect"] = "defect"
    accuracy: float
    accuracies: Items[float]
    balanced_accuracy: float | None
    confusion: Confusion

    @staticmethod
    def of(folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> CrossValidation:
        """From the scores of the defects and of the good photographs that each fold left out, [n] each."""
        confusions = [Confusion.at(0.0, defective, good) for defective, good in folds]
        whole = Confusion(
            true_positive=sum(confusion.true_positive for confusion in confusions),
            false_positive=sum(confusion.false_positive for confusion in confusions),
            true_negative=sum(confusion.true_negative for confusion in confusions),
            false_negative=sum(confusion.false_negative for confusion in confusions),
        )
        accuracies = tuple(confusion.accuracy for confusion in confusions if confusion.accuracy is not None)
        return CrossValidation(
            folds=len(folds),
            photographs=whole.total,
            accuracy=statistics.fmean(accuracies),
            accuracies=accuracies,
            balanced_accuracy=whole.balanced_accuracy,
            confusion=whole,
        )

    @property
    def sentence(self) -> str:
        """What it found, for the log, the results and the report."""
        confusion = self.confusion
        return (
            f"{self.folds}-fold cross-validation on the {self.photographs} photographs learnt from, by the "
            f"classifier's own boundary: accuracy {self.accuracy:.3f} ({min(self.accuracies):.3f} to "
            f"{max(self.accuracies):.3f}), balanced accuracy {self.balanced_accuracy:.3f}, "
            f"{confusion.true_positive} of {confusion.defects} defects found, {confusion.false_positive} of "
            f"{confusion.good} good parts rejected."
        )
