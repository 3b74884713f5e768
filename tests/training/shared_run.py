"""What one of several processes runs in test_distributed.py; a module of its own, because processes that are spawned
import it."""

from __future__ import annotations

import torch
from torch import Tensor
from toy_learner import ToyImages, ToyLearner

from vqi.detectors.settings import Budget
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput
from vqi.training.checkpoints import Checkpoints
from vqi.training.distributed import Group
from vqi.training.loop import Loop
from vqi.training.settings import TrainSettings


def refuse(group: Group) -> None:
    """One process meets what a person should be told."""
    if group.rank == 1:
        raise BadInput("The second process does not like it.")
    group.sum(torch.zeros(1))


def stumble(group: Group) -> float:
    """A mistake of the program's own."""
    return 1 / (group.size - 2)


def run(group: Group, steps: int) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Train the toy learner (batch normalisation and all, without dropout); its state and the history."""
    learner, images = ToyLearner(dropout=0.0), ToyImages(11)
    settings = TrainSettings(max_steps=steps, batch_size=4, processes=group.size)
    loop = Loop(
        learner,
        images,
        name="toy",
        settings=settings,
        budget=Budget(batch_size=4, epochs=1),
        compute=Compute(),
        seed=5,
        group=group,
    )
    training = loop.run(images)
    return learner.state_dict(), training.points


def odd(group: Group) -> dict[str, Tensor]:
    """Train on ten images in batches of four: the last batch of an epoch has fewer images than three processes."""
    learner, images = ToyLearner(dropout=0.0), ToyImages(10)
    settings, budget = TrainSettings(max_steps=3, batch_size=4), Budget(batch_size=4, epochs=1)
    Loop(learner, images, name="toy", settings=settings, budget=budget, compute=Compute(), seed=5, group=group).run(
        images
    )
    return learner.state_dict()


def resume(group: Group, checkpoints: str) -> dict[str, Tensor]:
    """Train for six steps in two goes, the second from the checkpoint of the first; processes begin with weights of
    their own, and a rank that sees another place sees no checkpoint."""
    for steps in (3, 6):
        group.sum(torch.zeros(1))  # the first process writes its last checkpoint while the others go on
        learner = ToyLearner(dropout=0.0)
        with torch.no_grad():
            next(learner.parameters()).add_(group.rank)
        loop = Loop(
            learner,
            ToyImages(11),
            name="toy",
            settings=TrainSettings(max_steps=steps, batch_size=4),
            budget=Budget(batch_size=4, epochs=1),
            compute=Compute(),
            seed=5,
            group=group,
            checkpoints=Checkpoints(checkpoints.format(rank=group.rank), "run"),
        )
        loop.run(ToyImages(11))
    return {name: group.sum(value.clone().double()) / group.size for name, value in learner.state_dict().items()}
