"""What a method states about itself and about each of its settings, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, model_validator

from vqi.platform.settings import Settings, whole_numbers

# What scores normals that are left out: "refits", the method fitted to all others (or what that gives, in closed form),
# or "pools", a bank chosen from what each fold's own coreset keeps.
LeaveOutKind = Literal["refits", "pools"]


@dataclass(frozen=True)
class Budget:
    """How long and with how many images a step a method trains where the user says nothing: its paper's numbers.

    `steps` > 0 counts in optimiser steps, else `epochs` passes over the training images.
    """

    batch_size: int
    epochs: int = 0
    steps: int = 0


class MethodSettings(Settings):
    """Base of every method's settings, whose class states what the method is. Types are strict: text that holds a
    number is not a number.

    `detector` names its Detector, `module:Class`; `on_engine` what stands for it without torch where an engine runs its
    network ('' = nothing does). `budget` is None for methods that learn nothing by gradient.
    `supervised` methods train on labelled defects too. `extra_images` names the setting that holds a source of further
    images (textures, penalty images), '' where there is none. `tunes_on_normals`: whether the end of training computes
    something that scores depend on from normals (`Learner.finish`), which takes normals of its own: others than it
    learnt from, and others than set the threshold. Methods that read no pretrained network set `uses_backbone = False`:
    what the configuration names as backbone is then neither needed nor loaded. `fits_in_parts`: its Detector is a
    `FitsInParts`. `positional` methods compare a position with what normals have at the same one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    method: ClassVar[str]
    detector: ClassVar[str]
    on_engine: ClassVar[str] = ""
    summary: ClassVar[str]
    paper: ClassVar[str]
    budget: ClassVar[Budget | None] = None
    supervised: ClassVar[bool] = False
    extra_images: ClassVar[str] = ""
    tunes_on_normals: ClassVar[bool] = False
    uses_backbone: ClassVar[bool] = True
    fits_in_parts: ClassVar[bool] = False
    positional: ClassVar[bool] = False

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, values: Any) -> Any:
        return whole_numbers(cls, values)
