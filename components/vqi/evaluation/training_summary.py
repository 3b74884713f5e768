"""What results and the report keep of a training."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from vqi.evaluation.cross_validation import CrossValidation
from vqi.platform.records import PartialRecord, Record

# What ended a training: the budget that ran out, patience, or the learner itself.
Stopped = Literal["steps", "seconds", "patience", "satisfied"]


class Point(Record):
    """A point of a training's history: the step it ends at, the learning rate there, and the mean of every loss by its
    name since the point before."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]

    step: float
    learning_rate: float

    @property
    def losses(self) -> dict[str, float]:
        """The means by the names of the losses."""
        return self.__pydantic_extra__


class TrainingSummary(PartialRecord):
    """What results keep of a training. `waited_share`: the part of the time that steps stood waiting for data;
    `budgets`: its limits as they were set; `cross_validation` is left out where there was none."""

    left_out: ClassVar[frozenset[str]] = frozenset({"cross_validation"})

    steps: int
    epochs: float
    batch_size: int
    processes: int
    seconds: float
    images_per_second: float
    waited_share: float
    stopped: Stopped
    cross_validation: CrossValidation | None = None
    learned_images: int
    budgets: dict[str, Any]
