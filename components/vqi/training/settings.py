"""How long and with what a network is trained; readable without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from vqi.platform.errors import BadInput

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


@dataclass(frozen=True)
class TrainSettings:
    """Learning ends with the first budget that runs out; 0 means no limit. Where neither steps nor epochs are set, the
    method's own budget holds.

    `batch_size`: images a step on all devices together; 0 = the method's own, -1 = the largest that fits.
    `checkpoints`: a folder or an s3:// prefix, '' = none are kept. `keep`: how many of the last ones stay. `patience`:
    epochs without a better loss on held-out normals before training stops, 0 = no early stop. `processes`: how many
    share the work, on one device each (or on the CPU).
    """

    max_steps: int = 0
    max_epochs: int = 0
    max_seconds: float = 0.0
    batch_size: int = OWN
    checkpoints: str = ""
    keep: int = 2
    patience: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("max_steps", self.max_steps, 0, 10**9),
            ("max_epochs", self.max_epochs, 0, 10**6),
            ("max_seconds", self.max_seconds, 0, 10**9),
            ("batch_size", self.batch_size, LARGEST, 4096),
            ("keep", self.keep, 1, 1000),
            ("patience", self.patience, 0, 10**6),
            ("processes", self.processes, 1, 1024),
        ):
            if not low <= value <= high:
                raise BadInput(f"train.{name} is {value}; it must lie between {low} and {high}.")

    def kept_at(self, default: str, name: str) -> TrainSettings:
        """These, with checkpoints kept below `default` where no other place is named; `name` sorts them for people,
        runs never share one anyway."""
        return self if self.checkpoints or not default else replace(self, checkpoints=f"{default.rstrip('/')}/{name}")

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
        return replace(self, max_steps=steps, max_seconds=self.max_seconds / 2)

    def after(self, seconds: float) -> TrainSettings:
        """The limits of what comes after a training that took `seconds`."""
        return replace(self, max_seconds=max(self.max_seconds - seconds, self.max_seconds / 2))


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
