"""What each of several processes runs in test_two_processes_every_method.py; a module of its own, because processes
that are spawned import it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from every_method import BACKBONE, COMPUTE, GEOMETRY, budget, small
from vqi.detectors.settings import SETTINGS
from vqi.steps.train.step import TrainingJob, learn
from vqi.training import loop
from vqi.training.distributed import Group

STEPS = 3
# Rounding alone changes its gradient by a tenth at this size: one process does so with other kernels for convolutions.
IN_DOUBLE = ("draem",)


def learn_methods(group: Group, methods: list[str], dataset: Path, networks: Path) -> dict[str, torch.Tensor]:
    """Train every method for a few steps into a folder of its name; the gradient of the first step of each, in one
    vector (that of its own training, where a pretraining comes before it).

    Twelve photographs in batches of five: the parts of a batch, and the batches of an epoch, differ in size.
    """
    torch.set_num_threads(1)
    gradients: dict[str, list[torch.Tensor]] = {}
    original = loop.Loop.run

    def run(self: loop.Loop, *arguments: Any) -> Any:
        steps: list[torch.Tensor] = []

        def keep(optimiser: torch.optim.Optimizer) -> None:
            parameters = [p for part in optimiser.param_groups for p in part["params"] if p.grad is not None]
            steps.append(torch.cat([p.grad.flatten().clone() for p in parameters]))

        loop.lay_out_gradients, before = keep, loop.lay_out_gradients
        if self.name in IN_DOUBLE:
            views = self._views
            finish = self.learner.finish
            self.learner.finish = lambda normals: finish.__func__(self.learner.float(), normals)
            self.learner.double()
            self.track = None
            self._views = lambda step: {name: value.double() for name, value in views(step).items()}  # type: ignore[method-assign]
        try:
            return original(self, *arguments)
        finally:
            loop.lay_out_gradients = before
            self.learner.float()
            gradients[self.name] = steps

    loop.Loop.run = run  # type: ignore[method-assign]
    try:
        for method in methods:
            job = TrainingJob(
                dataset=dataset,
                method=method,
                settings=SETTINGS[method](**small(method)).model_dump(),
                backbone=BACKBONE,
                geometry=GEOMETRY,
                compute=COMPUTE.model_copy(update={"engine": "torch"}),
                seed=1,
                network=networks / method,
                budgets=budget(method, STEPS).model_copy(update={"batch_size": 5}),
                calibration_fraction=0.0,
                tracking_uri="",
                experiment="",
            )
            assert learn(group, job).processes == group.size
    finally:
        loop.Loop.run = original  # type: ignore[method-assign]
    return {method: gradients[method][0] for method in methods}
