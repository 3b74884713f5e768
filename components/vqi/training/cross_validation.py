"""Stratified cross-validation of a supervised learner: every labelled image is scored by one that did not learn from
it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vqi.detectors.interface import ImageBatches
from vqi.detectors.learner import TrainedDetector, TrainingImages
from vqi.platform.devices import Compute
from vqi.training.checkpoints import Checkpoints
from vqi.training.distributed import Group
from vqi.training.loop import Loop
from vqi.training.order import generator
from vqi.training.settings import HasBudget, TrainSettings

# The stratum of good images.
GOOD = "good"


class Fold(NamedTuple):
    """The images left out of one training, by number, and the scores, float32 [n], of what was trained on the
    others."""

    numbers: list[int]
    scores: Tensor


class Chosen:
    """The images of `numbers` among others: TrainingImages."""

    def __init__(self, images: TrainingImages, numbers: Sequence[int]) -> None:
        self.images, self.numbers = images, list(numbers)
        self.labels = None if images.labels is None else images.labels[self.numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def load(self, numbers: Sequence[int]) -> Tensor:
        """float32 [n, 3, H, W] in [0, 1]."""
        return self.images.load([self.numbers[number] for number in numbers])


def stratified_folds(strata: Sequence[str], groups: Sequence[str], folds: int, seed: int) -> list[list[int]]:
    """The numbers of `strata` in `folds`, whole `groups` (the group of each), dealt like cards, one stratum after the
    other.

    Of the groups of each stratum, of all defects, and in all, folds differ by one at most. A group with a defect counts
    as its first defect's type.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        members[group].append(number)
    by_stratum: dict[str, list[list[int]]] = defaultdict(list)
    for numbers in members.values():
        by_stratum[next((strata[number] for number in numbers if strata[number] != GOOD), GOOD)].append(numbers)
    dealt: list[list[int]] = []
    # Good before all defect types, so that nothing comes between those.
    for position, stratum in enumerate(sorted(by_stratum, key=lambda stratum: (stratum != GOOD, stratum))):
        of_stratum = by_stratum[stratum]
        order = torch.randperm(len(of_stratum), generator=generator(seed, "folds", position)).tolist()
        dealt += [of_stratum[index] for index in order]
    return [sorted(number for numbers in dealt[fold::folds] for number in numbers) for fold in range(folds)]


def cross_validated(
    make: Callable[[], TrainedDetector],
    images: TrainingImages,
    strata: Sequence[str],
    groups: Sequence[str],
    *,
    folds: int,
    name: str,
    settings: TrainSettings,
    budget: HasBudget,
    compute: Compute,
    seed: int,
    normals: ImageBatches,
    stopping: TrainingImages | None = None,
    checkpoints: Callable[[int], Checkpoints | None] = lambda fold: None,
    group: Group | None = None,
) -> list[Fold]:
    """Train a new detector of `make` on all folds but one, for each, with one budget, and score the one that was left
    out.

    `strata`: what each image is (its defect type, or good); `groups`: the part it shows. `normals` and `stopping` are
    the same for every fold, as the loop takes them: no learner may learn labels from them. `checkpoints` of a fold
    (from 0) let it resume; a fold that is done is not trained again. The processes of `group` train every fold
    together, and each of them scores it.
    """
    done = []
    for number, left_out in enumerate(stratified_folds(strata, groups, folds, seed)):
        detector = make()
        excluded = set(left_out)
        learned = Chosen(images, [other for other in range(len(images)) if other not in excluded])
        loop = Loop(
            detector,
            learned,
            name=f"{name}, fold {number + 1} of {folds}",
            settings=settings,
            budget=budget,
            compute=compute,
            seed=seed,
            stopping=stopping,
            checkpoints=checkpoints(number),
            group=group,
        )
        loop.run(normals)
        done.append(Fold(left_out, _scores(detector, Chosen(images, left_out), compute.batch_size)))
    return done


@torch.no_grad()
def _scores(detector: TrainedDetector, images: TrainingImages, batch_size: int) -> Tensor:
    detector.eval()
    starts = range(0, len(images), batch_size)
    batches = (images.load(range(start, min(start + batch_size, len(images)))) for start in starts)
    return torch.cat([detector(batch.to(detector.device)).image.float().cpu() for batch in batches])
