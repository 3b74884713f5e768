"""What a supervised method's cross-validation deals into folds, and the record of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vqi.dataset.manifest import Sample
from vqi.evaluation.cross_validation import CrossValidation
from vqi.platform.errors import BadInput
from vqi.training.cross_validation import Fold


class Photographs(NamedTuple):
    """What is dealt into folds, by number among the images learnt from; `types`: defect type or good; `groups`: the
    part that each shows; `labels`: int64 [n], 1 = defect.

    Of photographs with the same bytes the first alone.
    """

    numbers: list[int]
    types: list[str]
    groups: list[str]
    labels: Tensor

    @staticmethod
    def of(samples: Sequence[Sample], labels: Tensor | None = None) -> Photographs:
        """The images of the distinct ones of `samples`; `labels`: those of all their images, int64 [samples * tiles],
        None: one image a sample, labelled as it is."""
        if labels is None:
            labels = torch.tensor([int(sample.label == "defect") for sample in samples])
        tiles = len(labels) // max(1, len(samples))
        first: dict[str, int] = {}
        for number, sample in enumerate(samples):
            first.setdefault(sample.sha256, number)
        numbers = [number * tiles + tile for number in first.values() for tile in range(tiles)]
        chosen = [samples[number // tiles] for number in numbers]
        labels = labels[numbers]
        types = [sample.defect if label else "good" for sample, label in zip(chosen, labels.tolist(), strict=True)]
        return Photographs(numbers, types, [sample.group_key for sample in chosen], labels)


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


def cross_validation_record(folds: Sequence[Fold], labels: Tensor) -> CrossValidation:
    """What the folds say of photographs with these `labels`, int64 [n], 1 = defect."""
    defective = [labels[fold.numbers] == 1 for fold in folds]
    return CrossValidation.of(
        [(fold.scores[mask].numpy(), fold.scores[~mask].numpy()) for fold, mask in zip(folds, defective, strict=True)]
    )
