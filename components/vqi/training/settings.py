"""How long and with what a network is trained; readable without torch."""

from __future__ import annotations

from typing import Protocol

from pydantic import Field

from vqi.platform.errors import BadInput
from vqi.platform.settings import Settings

# `batch_size`: the method's own, or the largest that fits into memory.
OWN, LARGEST = 0, -1


class HasBudget(Protocol):
    """The budget a method brings along: its paper's."""

    @property
    def batch_size(self) -> int: ...

    @property
    def epochs(self) -> int: ...

    @property
    def steps(self) -> int: ...


class TrainSettings(Settings):
    """Learning ends with the first budget that runs out; 0 means no limit. Where neither steps nor epochs are set, the
    method's own budget holds."""

    max_steps: int = Field(0, ge=0, le=10**9, description="optimiser steps; 0 = no limit")
    max_epochs: int = Field(
        0,
        ge=0,
        le=10**6,
        description="passes over the images; 0 = no limit; without either the method's own budget holds",
    )
    max_seconds: float = Field(0.0, ge=0, le=10**9, description="wall time; 0 = no limit")
    batch_size: int = Field(
        OWN,
        ge=LARGEST,
        le=4096,
        description="images a step on all devices together; 0 = the method's own, -1 = the largest that fits",
    )
    checkpoints: str = Field("", description="folder or s3://bucket/prefix that an interrupted training resumes from")
    patience: int = Field(
        0,
        ge=0,
        le=10**6,
        description="epochs without a better loss on held-out normals before training stops; 0 = no early stop",
    )
    processes: int = Field(1, ge=1, le=1024, description="processes that train together on a node, one a device")
    nodes: int = Field(
        1,
        ge=1,
        le=64,
        description="nodes of a cluster that train together, each with train.processes; above 1 by Kubeflow Trainer",
    )

    def kept_at(self, default: str, name: str) -> TrainSettings:
        """These, with checkpoints kept below `default` where no other place is named; `name` sorts them for people,
        runs never share one anyway."""
        if self.checkpoints or not default:
            return self
        return self.model_copy(update={"checkpoints": f"{default.rstrip('/')}/{name}"})

    def steps(self, budget: HasBudget, steps_per_epoch: int) -> int:
        """The optimiser steps that the step and epoch budgets allow."""
        limits = [self.max_steps] if self.max_steps else []
        if self.max_epochs:
            limits.append(self.max_epochs * steps_per_epoch)
        return min(limits) if limits else budget.steps or budget.epochs * steps_per_epoch

    def of_first(self, budget: HasBudget) -> TrainSettings:
        """The limits of a training that comes before the method's own: its own budget within these, and at most half of
        the time."""
        steps = min(self.max_steps, budget.steps) if self.max_steps else budget.steps
        return self.model_copy(update={"max_steps": steps, "max_seconds": self.max_seconds / 2})

    def after(self, seconds: float) -> TrainSettings:
        """The limits of what comes after a training that took `seconds`."""
        return self.model_copy(update={"max_seconds": max(self.max_seconds - seconds, self.max_seconds / 2)})


def check_nodes(method: str, settings: TrainSettings, budget: HasBudget | None) -> None:
    """Raises BadInput where `method`, whose budget is None if it learns nothing by gradient, cannot be trained on the
    nodes of `settings`."""
    if settings.nodes == 1:
        return
    if budget is None:
        raise BadInput(
            f"train.nodes is {settings.nodes}, but {method} learns nothing by gradient steps, so that nodes have "
            "nothing to share; leave train.nodes at 1."
        )
    if settings.checkpoints and not settings.checkpoints.startswith("s3://"):
        raise BadInput(
            f"train.checkpoints is {settings.checkpoints!r}, which only one of {settings.nodes} nodes would see; name "
            "an s3://bucket/prefix."
        )
    size, processes = settings.batch_size or budget.batch_size, settings.nodes * settings.processes
    if size != LARGEST and size < processes:
        raise BadInput(
            f"{settings.nodes} nodes have {processes} processes, which cannot share {method}'s batch of {size}; raise "
            "train.batch_size or lower train.nodes."
        )


def check_training_precision(method: str, precision: str, device: str) -> None:
    """Raises BadInput where `method` would train in float16 on a processor (`device` "cpu").

    A step of efficient_ad took more than 100 s in place of one or two: processors lack many of its operations in
    float16.
    """
    if precision == "float16" and device == "cpu":
        raise BadInput(
            f"compute.precision is float16 and {method} trains, which is many times slower on processors than in "
            "float32; use bfloat16 or float32, or an accelerator (compute.device=cuda)."
        )
