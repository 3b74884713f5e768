"""Every layout that photographs can come in, one reader each.

A layout is a module of this package that defines a LayoutReader, or an entry point of the group `vqi.layouts` of any
installed package, which names one (docs/extending.md). Ingest, `vqi check` and the configuration find both here, when
they need them.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from functools import cache
from importlib.metadata import entry_points

from vqi.dataset.layouts.interface import LayoutReader
from vqi.platform.errors import BadInput, closest

ENTRY_POINTS = "vqi.layouts"
# Not a layout, but the request to recognise one.
AUTO = "auto"


def discover_layouts() -> dict[str, LayoutReader]:
    """A reader of every layout, ours and those of installed packages, by the layout's name, sorted.

    Raises BadInput where an entry point cannot be loaded, is not a LayoutReader, or takes the name of another layout.
    """
    kinds: dict[str, type[LayoutReader]] = {}
    for module in pkgutil.iter_modules(__path__):
        for _, kind in inspect.getmembers(importlib.import_module(f"{__name__}.{module.name}"), inspect.isclass):
            if issubclass(kind, LayoutReader) and not inspect.isabstract(kind):
                kinds[kind.name] = kind
    for point in entry_points(group=ENTRY_POINTS):
        where = f"The entry point {point.name} = {point.value} of the group {ENTRY_POINTS}"
        try:
            kind = point.load()
        except Exception as error:  # whatever a foreign package raises as it is imported
            raise BadInput(
                f"{where} cannot be loaded ({type(error).__name__}: {error}); mend or remove its package."
            ) from error
        if not (inspect.isclass(kind) and issubclass(kind, LayoutReader) and not inspect.isabstract(kind)):
            raise BadInput(f"{where} does not name a LayoutReader with detect and read; mend or remove its package.")
        name = getattr(kind, "name", None)
        if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name) or name == AUTO:
            raise BadInput(
                f"{where} has the name {name!r}; a layout's name is of small letters, digits, '-' and '_', and not "
                f"{AUTO!r}."
            )
        if kinds.setdefault(name, kind) is not kind:
            raise BadInput(f"{where} has the name of another layout, {name!r}; rename it.")
    return {name: kind() for name, kind in sorted(kinds.items())}


@cache
def layouts() -> dict[str, LayoutReader]:
    """As `discover_layouts`, found once in a process."""
    return discover_layouts()


def check_layout(name: str) -> None:
    """Raise BadInput with a hint where `data.layout` names no layout."""
    known = [AUTO, *layouts()]
    if name not in known:
        raise BadInput(f"data.layout is {name!r}.{closest(name, known)}")
