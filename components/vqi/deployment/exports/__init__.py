"""The export formats: how the graph is written into a bundle and opened again, one module each.

A format is a module of this package that defines an ExportFormat, or an entry point of the group `vqi.exports` of any
installed package, which names one (docs/extending.md). The export step, the parity gate and the predictor find them
here. Nothing here needs torch or a runtime.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from vqi.deployment.bundle_files import BUNDLE_FILE, INDEX, NAME, PACKAGE, PRECISION, SIDECAR
from vqi.deployment.exports.export_format import BundleWrapper, ExportFormat, covers
from vqi.platform.errors import BadInput, closest

__all__ = [
    "DEFAULT_FORMATS",
    "BundleWrapper",
    "ExportFormat",
    "check_formats",
    "export_formats",
    "graphs_of",
    "preferred",
    "wrappers_of",
]

ENTRY_POINTS = "vqi.exports"
DEFAULT_FORMATS = ("onnx", "openvino")


@cache
def export_formats() -> dict[str, ExportFormat]:
    """Every export format, ours and those of installed packages, by its name, sorted.

    Raises BadInput where an entry point cannot be loaded, is not a whole ExportFormat, or takes the name, the backend
    or a file of another format.
    """
    kinds: dict[str, type[ExportFormat]] = {}
    for where, kind in [*_own(), *_foreign()]:
        if not (inspect.isclass(kind) and issubclass(kind, ExportFormat)):
            raise BadInput(f"{where} does not name an ExportFormat; mend or remove its package.")
        if reason := _incomplete(kind):
            raise BadInput(f"{where} names an ExportFormat that is not whole: {reason}; mend or remove its package.")
        if kinds.setdefault(kind.name, kind) is not kind:
            raise BadInput(f"{where} has the name of another export format, {kind.name!r}; rename it.")
        if reason := _in_the_way(kind, kinds):
            raise BadInput(f"{where} {reason}; rename it.")
    return {name: kind() for name, kind in sorted(kinds.items())}


def _own() -> Iterator[tuple[str, Any]]:
    """Ours, each with the words that name where it comes from."""
    for module in pkgutil.iter_modules(__path__):
        members = inspect.getmembers(importlib.import_module(f"{__name__}.{module.name}"), inspect.isclass)
        for _, kind in members:
            if issubclass(kind, ExportFormat) and kind not in (ExportFormat, BundleWrapper):
                yield f"The module {__name__}.{module.name}", kind


def _foreign() -> Iterator[tuple[str, Any]]:
    """What the entry points of installed packages name."""
    for point in entry_points(group=ENTRY_POINTS):
        where = f"The entry point {point.name} = {point.value} of the group {ENTRY_POINTS}"
        try:
            yield where, point.load()
        except Exception as error:  # whatever a foreign package raises as it is imported
            raise BadInput(
                f"{where} cannot be loaded ({type(error).__name__}: {error}); mend or remove its package."
            ) from error


def _incomplete(kind: type[ExportFormat]) -> str:
    """What a format fails to state, or states wrongly; "" where it is whole."""
    if inspect.isabstract(kind):
        return f"it lacks {', '.join(sorted(kind.__abstractmethods__))}"
    stated = ("name", "summary", "backend", "files", "install", "opens_with")
    if missing := [attribute for attribute in stated if not hasattr(kind, attribute)]:
        return f"it does not state {missing[0]}"
    for attribute, pattern in (("name", NAME), ("backend", NAME), ("install", PACKAGE), ("precision", PRECISION)):
        value = getattr(kind, attribute)
        if not (isinstance(value, str) and re.fullmatch(pattern, value)):
            return f"its {attribute} is {value!r}, which does not match {pattern}"
    if kind.backend == "auto":
        return "its backend is 'auto', which is the choice among all"
    if not (kind.tolerance is None or (isinstance(kind.tolerance, int | float) and 0 < kind.tolerance <= 1)):
        return f"its tolerance is {kind.tolerance!r}, which is neither None nor a number in (0, 1]"
    files = kind.files
    if not (isinstance(files, tuple) and files and all(isinstance(file, str) for file in files)):
        return "its files are not a tuple of names"
    if unusable := [
        file for file in files if not re.fullmatch(BUNDLE_FILE, file.removesuffix("/")) or file in (SIDECAR, INDEX)
    ]:
        return f"its file {unusable[0]!r} cannot be in a bundle"
    return ""


def _in_the_way(kind: type[ExportFormat], kinds: dict[str, type[ExportFormat]]) -> str:
    """How a format meets another one's backend or files; "" where it does not."""
    for other in kinds.values():
        if other is kind:
            continue
        if other.backend == kind.backend:
            return f"has the backend of the export format {other.name!r}, {kind.backend!r}"
        for file in kind.files:
            if any(covers(stated, file) or covers(file, stated) for stated in other.files):
                return f"writes {file!r}, which belongs to the export format {other.name!r}"
    return ""


def check_formats(names: Sequence[str], *, writable: bool = False) -> tuple[ExportFormat, ...]:
    """The formats of `export.formats`, in its order. Needs no torch, and no runtime unless `writable`.

    Raises BadInput where the list is empty, names a format twice or one that does not exist, with a hint; `writable`:
    also where this environment lacks what writing one takes (the environment of the export step has to have it, no
    other).
    """
    formats = export_formats()
    if not names:
        raise BadInput(f"export.formats is empty; name at least one of {', '.join(formats)}.")
    for name in names:
        if name not in formats:
            raise BadInput(f"export.formats names {name!r}, which is not an export format.{closest(name, [*formats])}")
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise BadInput(f"export.formats names {name} more than once; name each format once.")
    chosen = tuple(formats[name] for name in names)
    if not graphs_of(chosen):
        raise BadInput(
            f"export.formats names {chosen[0].name} alone, which runs the graph of another format; name one beside it, "
            f"such as {DEFAULT_FORMATS[0]}."
        )
    if writable:
        for export_format in chosen:
            if missing := [*export_format.missing_to_write(), *export_format.missing_to_open()]:
                # Opened as well: the parity gate runs what was written.
                raise BadInput(
                    f"The export format {export_format.name} cannot be written here, for lack of "
                    f"{', '.join(dict.fromkeys(missing))}; install that where the export step runs, or leave the "
                    "format out of export.formats."
                )
    return chosen


def graphs_of(formats: Sequence[ExportFormat]) -> tuple[ExportFormat, ...]:
    """The formats that hold a graph."""
    return tuple(export_format for export_format in formats if not isinstance(export_format, BundleWrapper))


def wrappers_of(formats: Sequence[ExportFormat]) -> tuple[BundleWrapper, ...]:
    """The formats that let others run the bundle as a whole."""
    return tuple(export_format for export_format in formats if isinstance(export_format, BundleWrapper))


def preferred(formats: Sequence[ExportFormat]) -> list[ExportFormat]:
    """The formats in the order that `auto` takes them in."""
    return sorted(formats, key=lambda export_format: (-export_format.preference, export_format.name))
