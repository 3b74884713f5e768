"""The record of a cross-validation: what a supervised method would do on photographs like those it learns from."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vqi.dataset.manifest import Sample
from vqi.evaluation.metrics import Confusion
from vqi.platform.errors import BadInput
from vqi.training.cross_validation import Fold


class Photographs(NamedTuple):
    """What is dealt into folds, by number among the samples learnt from; `types`: defect type or good; `groups`: the
    part that each shows; `labels`: int64 [n], 1 = defect.

    Of photographs with the same bytes the first alone.
    """

    numbers: list[int]
    types: list[str]
    groups: list[str]
    labels: Tensor

    @staticmethod
    def of(samples: Sequence[Sample]) -> Photographs:
        """The distinct ones of `samples`."""
        first: dict[str, int] = {}
        for number, sample in enumerate(samples):
            first.setdefault(sample.sha256, number)
        chosen = [samples[number] for number in first.values()]
        labels = torch.tensor([int(sample.label == "defect") for sample in chosen])
        return Photographs(
            list(first.values()), [sample.defect for sample in chosen], [s.group_key for s in chosen], labels
        )


def check_folds(folds: int, labels: Tensor, groups: Sequence[str]) -> None:
    """Raises BadInput where a fold would be left without a defect, or without a good part, or nothing would be left to
    learn from."""
    if folds == 1:
        raise BadInput(
            "method.settings.folds is 1, which leaves nothing to learn from; write 0 for no cross-validation, or 2 or "
            "more."
        )
    parts = (
        {group for group, other in zip(groups, labels.tolist(), strict=True) if other == label} for label in (0, 1)
    )
    fewest = min(map(len, parts))
    if fewest < folds:
        raise BadInput(
            f"method.settings.folds is {folds}, but there are only {fewest} labelled photographs of good or of "
            "defect; lower it, or label more."
        )


def cross_validation_record(folds: Sequence[Fold], labels: Tensor) -> dict[str, Any]:
    """`accuracy`: the mean over the folds of `accuracies`. `balanced_accuracy` and `confusion` are of all photographs
    together, each judged by the network that had not learnt from it, at the classifier's own boundary: defect, the
    positive class, is a score above 0. `labels`: 1 = defect.
    """
    confusions = []
    for fold in folds:
        defective = labels[fold.numbers] == 1
        confusions.append(Confusion.at(0.0, fold.scores[defective].numpy(), fold.scores[~defective].numpy()))
    whole = Confusion(
        *(sum(counts) for counts in zip(*(asdict(confusion).values() for confusion in confusions), strict=True))
    )
    accuracies = [confusion.accuracy for confusion in confusions if confusion.accuracy is not None]
    return {
        "folds": len(folds),
        "photographs": whole.total,
        "positive_class": "defect",
        "accuracy": statistics.fmean(accuracies),
        "accuracies": accuracies,
        "balanced_accuracy": whole.balanced_accuracy,
        "confusion": asdict(whole),
    }


def cross_validation_sentence(record: dict[str, Any]) -> str:
    """What a cross-validation found, for the log, the results and the report."""
    low, high, confusion = min(record["accuracies"]), max(record["accuracies"]), record["confusion"]
    detected, missed, rejected, passed = (
        confusion[key] for key in ("true_positive", "false_negative", "false_positive", "true_negative")
    )
    return (
        f"{record['folds']}-fold cross-validation on the {record['photographs']} photographs learnt from, by the "
        "classifier's own boundary: "
        f"accuracy {record['accuracy']:.3f} ({low:.3f} to {high:.3f}), balanced accuracy "
        f"{record['balanced_accuracy']:.3f}, "
        f"{detected} of {detected + missed} defects found, {rejected} of {rejected + passed} good parts rejected."
    )
