"""Every method's settings: typed, strict, documented in one place, readable without torch.

A method is a module of this package that defines a MethodSettings; configuration, command line, catalog and the KFP drop-down find it here.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from typing import Any, get_type_hints

from vqi.detectors.settings.backbone import BackboneSettings
from vqi.detectors.settings.fields import Budget, MethodSettings, coerced, setting
from vqi.platform.errors import BadInput, closest

__all__ = ["SETTINGS", "BackboneSettings", "Budget", "MethodSettings", "local_paths", "method_names", "parse_settings", "setting", "settings_class"]


def _found() -> dict[str, type[MethodSettings]]:
    """The settings of every method, by the method's name, sorted."""
    kinds: dict[str, type[MethodSettings]] = {}
    for module in pkgutil.iter_modules(__path__):
        for _, kind in inspect.getmembers(importlib.import_module(f"{__name__}.{module.name}"), inspect.isclass):
            if issubclass(kind, MethodSettings) and dataclasses.is_dataclass(kind):
                kinds[kind.method] = kind
    return dict(sorted(kinds.items()))


SETTINGS = _found()


def method_names() -> list[str]:
    """The methods there are, sorted."""
    return list(SETTINGS)


def settings_class(method: str) -> type[MethodSettings]:
    """The settings of `method`. Raises BadInput with a hint where there is no such method."""
    if method not in SETTINGS:
        raise BadInput(f"method.name is {method!r}, which is no method here.{closest(method, method_names())}")
    return SETTINGS[method]


def parse_settings(method: str, values: dict[str, Any]) -> Any:
    """The settings of `method` from plain values, strictly: unknown keys, wrong types and values out of range are BadInput with a hint.

    A whole float is taken for an integer (KFP hands integers over as floats); a string holding a number is not.
    """
    kind = settings_class(method)
    known = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    parsed = {}
    for key, value in values.items():
        if key not in known:
            raise BadInput(f"method.settings.{key} is no setting of {method}.{closest(key, list(known))}")
        parsed[key] = coerced(f"method.settings.{key}", value, hints[key], known[key].metadata)
    return kind(**parsed)


def local_paths(method: str, values: dict[str, Any]) -> dict[str, str]:
    """Those of `values` that name a file or folder of the machine they were written on, by the setting's name."""
    paths = [item.name for item in dataclasses.fields(settings_class(method)) if item.metadata.get("path")]  # type: ignore[arg-type]
    return {name: values[name] for name in paths if values.get(name) and "://" not in values[name]}
