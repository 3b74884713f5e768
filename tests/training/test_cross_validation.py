"""Cross-validation: folds that are alike, and images scored by what did not learn from them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from example_results import confusion
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings, Budget
from vqi.detectors.vgg_cam import VggCam
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput
from vqi.training.cross_validation import Fold, cross_validated, stratified_folds
from vqi.training.folds import check_folds, cross_validation_record
from vqi.training.settings import TrainSettings

# Every image a group of its own.
SINGLE = [str(number) for number in range(100)]


class Images:
    """Dark images, and defects with a bright half; one of the good ones is labelled a defect."""

    def __init__(self, count: int, mislabelled: int) -> None:
        self.labels: Tensor | None = (torch.arange(count) % 2 == 1).long()
        self.images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.2
        self.images[self.labels == 1, :, :, 16:] += 0.8
        self.labels[mislabelled] = 1

    def __len__(self) -> int:
        return len(self.images)

    def load(self, numbers: Sequence[int]) -> Tensor:
        return self.images[list(numbers)]


def detector() -> VggCam:
    # Defects weigh less, so that the mislabelled one among few does not move the boundary.
    made = create(
        "vgg_cam",
        {"learning_rate": 0.02, "frozen": 1.0, "defect_weight": 0.3},
        BackboneSettings(name="filterbank"),
        (32, 32),
        0,
    )
    assert isinstance(made, VggCam)
    return made


def test_every_image_is_left_out_once_and_folds_are_alike() -> None:
    strata = ["good"] * 22 + ["dent"] * 7 + ["scratch"] * 4
    folds = stratified_folds(strata, SINGLE[: len(strata)], 5, seed=3)
    assert sorted(number for fold in folds for number in fold) == list(range(33))
    for stratum in set(strata):
        counts = [sum(strata[number] == stratum for number in fold) for fold in folds]
        assert max(counts) - min(counts) <= 1
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    assert stratified_folds(strata, SINGLE[: len(strata)], 5, seed=3) == folds
    assert stratified_folds(strata, SINGLE[: len(strata)], 5, seed=4) != folds


def test_every_fold_has_defects_where_all_types_together_suffice() -> None:
    strata = ["dent"] * 2 + ["good"] * 21 + ["scratch"] * 2
    for fold in stratified_folds(strata, SINGLE[: len(strata)], 4, seed=0):
        assert sum(strata[number] != "good" for number in fold) == 1


def test_photographs_of_one_part_are_in_one_fold() -> None:
    groups = [str(number // 3) for number in range(60)]
    strata = ["good" if number // 3 % 4 else "dent" for number in range(60)]
    # The third photograph of a dented part shows it before.
    strata[2] = "good"
    folds = stratified_folds(strata, groups, 5, seed=0)
    assert sorted(number for fold in folds for number in fold) == list(range(60))
    assert all(len({groups[number] for number in fold}) == 4 and len(fold) == 12 for fold in folds)
    assert all(sum(strata[number] == "dent" for number in fold) in (2, 3) for fold in folds)


def test_an_image_is_scored_by_what_did_not_learn_from_it() -> None:
    images = Images(16, mislabelled=4)
    assert images.labels is not None
    strata = ["defect" if label else "good" for label in images.labels]
    settings = TrainSettings(max_epochs=12)
    options = {
        "folds": 4,
        "name": "test",
        "settings": settings,
        "budget": Budget(4, 1),
        "compute": Compute(),
        "seed": 0,
        "normals": [],
    }
    folds = cross_validated(detector, images, strata, SINGLE[: len(strata)], **options)  # type: ignore[arg-type]
    scores = torch.empty(16)
    for fold in folds:
        scores[fold.numbers] = fold.scores
    # The mislabelled one looks like a good one to those who have not learnt it by heart.
    expected = [number % 2 == 1 for number in range(16)]
    assert [bool(score > 0) for score in scores] == expected
    record = cross_validation_record(folds, images.labels)
    assert record.confusion == confusion(8, 0, 7, 1)
    assert record.accuracy == pytest.approx(15 / 16)
    again = cross_validated(detector, images, strata, SINGLE[: len(strata)], **options)  # type: ignore[arg-type]
    assert all(torch.equal(first.scores, second.scores) for first, second in zip(folds, again, strict=True))


def test_the_record_states_the_positive_class_and_the_sentence_what_it_means() -> None:
    folds = [Fold([0, 1], torch.tensor([1.0, -1.0])), Fold([2, 3], torch.tensor([1.0, 1.0]))]
    record = cross_validation_record(folds, torch.tensor([1, 0, 1, 0]))
    assert (record.positive_class, record.accuracies, record.accuracy) == ("defect", (1.0, 0.5), 0.75)
    assert record.confusion == confusion(2, 1, 1, 0)
    assert record.balanced_accuracy == 0.75
    assert "2-fold cross-validation on the 4 photographs" in record.sentence
    assert "2 of 2 defects found, 1 of 2 good parts rejected" in record.sentence


def test_more_folds_than_defects_are_refused() -> None:
    check_folds(2, torch.tensor([0, 0, 1, 1]), SINGLE[:4])
    with pytest.raises(BadInput, match=r"folds is 3, but there are only 2"):
        check_folds(3, torch.tensor([0, 0, 0, 1, 1]), SINGLE[:5])


def test_a_single_fold_is_refused() -> None:
    check_folds(0, torch.tensor([0]), SINGLE[:1])
    with pytest.raises(BadInput, match="nothing to learn from"):
        check_folds(1, torch.tensor([0, 1]), SINGLE[:2])
