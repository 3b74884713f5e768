"""What a method says of itself, from the one place that documents it (`vqi.detectors.settings`); needs no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from vqi.detectors.settings import method_names, settings_class
from vqi.detectors.settings.fields import Budget, MethodSettings
from vqi.platform.settings import bounds_of, choices_of, extra_of, type_of

Kind = Literal["memory", "trained", "supervised"]


@dataclass(frozen=True)
class Setting:
    """One setting: its type in words, its default, its closed range or its choices, what it means and where its default
    comes from."""

    name: str
    type: str
    default: Any
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    meaning: str
    source: str

    @property
    def allowed(self) -> str:
        """Its type and limits in words: `number, 0 to 1`."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.low is None and self.high is None:
            return self.type
        low, high = ("" if value is None else f"{value:.15g}" for value in (self.low, self.high))
        return (
            f"{self.type}, {low} to {high}"
            if low and high
            else f"{self.type}, {'at least ' + low if low else 'at most ' + high}"
        )


@dataclass(frozen=True)
class Method:
    """A method: what it is, whose it is, how it learns and what can be set. `kind`: `memory` methods fit an index to
    the normals and learn nothing by gradient, `trained` ones do, `supervised` ones learn from labelled defects too.
    `extra_images` names the setting that further images come from.
    """

    name: str
    summary: str
    paper: str
    kind: Kind
    budget: Budget | None
    uses_backbone: bool
    extra_images: str
    settings: tuple[Setting, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)


def describe(method: str) -> Method:
    """What `method` says of itself. Raises BadInput with a hint where there is no such method."""
    kind = settings_class(method)
    return Method(
        name=kind.method,
        summary=kind.summary,
        paper=kind.paper,
        kind="supervised" if kind.supervised else "memory" if kind.budget is None else "trained",
        budget=kind.budget,
        uses_backbone=kind.uses_backbone,
        extra_images=kind.extra_images,
        settings=tuple(_settings(kind)),
    )


def describe_all() -> list[Method]:
    """Every method, sorted by name."""
    return [describe(name) for name in method_names()]


_WORDS: dict[Any, str] = {int: "whole number", float: "number", bool: "true or false", str: "text"}


def _settings(kind: type[MethodSettings]) -> list[Setting]:
    return [
        Setting(
            name=name,
            type=_WORDS.get(type_of(field), "text"),
            default=field.default,
            low=bounds_of(field)[0],
            high=bounds_of(field)[1],
            choices=choices_of(field),
            meaning=field.description or "",
            source=extra_of(field, "source") or "",
        )
        for name, field in kind.model_fields.items()
    ]
