"""What a method says of itself and of each of its settings, readable without torch."""

from __future__ import annotations

import types
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args, get_origin

from vqi.platform.errors import BadInput


@dataclass(frozen=True)
class Budget:
    """How long and with how many images a step a method trains where the user says nothing: its paper's numbers.

    `steps` > 0 counts in optimiser steps, else `epochs` passes over the training images.
    """

    batch_size: int
    epochs: int = 0
    steps: int = 0


class MethodSettings:
    """Base of every method's settings: frozen dataclasses whose class says what the method is.

    `detector` is where its Detector lies, `module:Class`. `budget` is None for methods that learn nothing by gradient. `supervised` methods train on
    labelled defects too. `extra_images` names the setting that holds a source of further images (textures, penalty images), '' where there is none.
    `tunes_on_normals`: whether the end of training computes something that scores depend on from normals (`Learner.finish`),
    which takes normals of its own: others than it learnt from, and others than set the threshold.
    Methods that read no pretrained network say `uses_backbone = False`: what the configuration names as backbone is then neither needed nor loaded.
    """

    method: ClassVar[str]
    detector: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    budget: ClassVar[Budget | None] = None
    supervised: ClassVar[bool] = False
    extra_images: ClassVar[str] = ""
    tunes_on_normals: ClassVar[bool] = False
    uses_backbone: ClassVar[bool] = True


def setting(
    default: Any,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    source: str = "",
    path: bool = False,
) -> Any:
    """A field with its meaning, its closed range [`low`, `high`] or its `choices`, and where its default comes from. `path`: it names a file, a
    folder or an s3:// address that training reads.
    """
    return field(default=default, metadata={"meaning": meaning, "low": low, "high": high, "choices": choices, "source": source, "path": path})


def coerced(name: str, value: Any, kind: Any, metadata: Any) -> Any:
    """`value` as the type and within the limits of a field; BadInput naming it `name` where it is not."""
    if get_origin(kind) is types.UnionType:
        kind = next(k for k in get_args(kind) if k is not type(None))
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BadInput(
            f"{name} is {value!r}; it must be {'a whole number' if kind is int else 'a number' if kind is float else f'a {kind.__name__}'}."
        )
    low, high, choices = metadata.get("low"), metadata.get("high"), metadata.get("choices")
    if kind in (int, float) and not ((low is None or value >= low) and (high is None or value <= high)):
        raise BadInput(f"{name} is {value}; it must lie between {low:g} and {high:g}.")
    if choices and value not in choices:
        raise BadInput(f"{name} is {value!r}; it must be one of {', '.join(choices)}.")
    return value
