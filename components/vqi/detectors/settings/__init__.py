"""Every method's settings: typed, strict, documented in one module each, readable without torch.

A method is a module of this package that defines a MethodSettings, or an entry point of the group `vqi.methods` of any
installed package, which names one (docs/extending.md). Configuration, command line, catalog and the KFP drop-down find
both here.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from importlib.metadata import entry_points
from typing import Any

from vqi.detectors.settings.backbone import BackboneSettings, WholeBackbone
from vqi.detectors.settings.fields import Budget, MethodSettings
from vqi.platform.errors import BadInput, closest
from vqi.platform.settings import extra_of, read_settings

__all__ = [
    "SETTINGS",
    "BackboneSettings",
    "Budget",
    "MethodSettings",
    "WholeBackbone",
    "local_paths",
    "method_names",
    "parse_settings",
    "setting_addresses",
    "settings_class",
]

ENTRY_POINTS = "vqi.methods"


def discover_methods() -> dict[str, type[MethodSettings]]:
    """The settings of every method, ours and those of installed packages, by the method's name, sorted.

    Raises BadInput where an entry point cannot be loaded, is not a MethodSettings, or takes the name of another method.
    """
    kinds: dict[str, type[MethodSettings]] = {}
    for module in pkgutil.iter_modules(__path__):
        for _, kind in inspect.getmembers(importlib.import_module(f"{__name__}.{module.name}"), inspect.isclass):
            if issubclass(kind, MethodSettings) and kind is not MethodSettings:
                kinds[kind.method] = kind
    for point in entry_points(group=ENTRY_POINTS):
        where = f"The entry point {point.name} = {point.value} of the group {ENTRY_POINTS}"
        try:
            kind = point.load()
        except Exception as error:  # whatever a foreign package raises as it is imported
            raise BadInput(
                f"{where} cannot be loaded ({type(error).__name__}: {error}); mend or remove its package."
            ) from error
        if not (inspect.isclass(kind) and issubclass(kind, MethodSettings)):
            raise BadInput(f"{where} does not name a MethodSettings; mend or remove its package.")
        if kinds.setdefault(kind.method, kind) is not kind:
            raise BadInput(f"{where} has the name of another method, {kind.method!r}; rename it.")
    return dict(sorted(kinds.items()))


SETTINGS = discover_methods()


def method_names() -> list[str]:
    """The methods there are, sorted."""
    return list(SETTINGS)


def settings_class(method: str) -> type[MethodSettings]:
    """The settings of `method`. Raises BadInput with a hint where no method has that name."""
    if method not in SETTINGS:
        raise BadInput(f"method.name is {method!r}, which is not a method.{closest(method, method_names())}")
    return SETTINGS[method]


def parse_settings(method: str, values: dict[str, Any]) -> Any:
    """The settings of `method` from plain values, strictly: unknown keys, wrong types and values out of range are
    BadInput with a hint."""
    return read_settings(settings_class(method), values, "method.settings.", method)


def local_paths(method: str, values: dict[str, Any]) -> dict[str, str]:
    """Those of `values` that name a file or folder of the machine they were written on, by the setting's name."""
    return {name: address for name, address in _addresses(method, values).items() if "://" not in address}


def setting_addresses(method: str, values: dict[str, Any]) -> dict[str, str]:
    """Those of `values` that name a file, a folder or an address, by the setting's key."""
    return {f"method.settings.{name}": address for name, address in _addresses(method, values).items()}


def _addresses(method: str, values: dict[str, Any]) -> dict[str, str]:
    paths = [name for name, field in settings_class(method).model_fields.items() if extra_of(field, "path")]
    return {name: values[name] for name in paths if values.get(name)}
