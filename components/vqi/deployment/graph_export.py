"""A traced detector written into a bundle, in every chosen export format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vqi.deployment.bundle_files import INDEX
from vqi.deployment.exports import DEFAULT_FORMATS, ExportFormat, check_formats
from vqi.deployment.exports.export_format import Note
from vqi.deployment.sidecar import Graph
from vqi.deployment.tracing import TracedDetector, first_line
from vqi.platform.errors import RunFailed, VqiError

if TYPE_CHECKING:
    from vqi.detectors.interface import Detector


class ExportedGraphs(NamedTuple):
    """What a sidecar says of the graph, what each format notes about its files, and the precision that it computes
    in."""

    graph: Graph
    notes: dict[str, dict[str, Note]]
    precisions: dict[str, str]


def export_graphs(
    detector: Detector,
    folder: Path,
    formats: Sequence[ExportFormat] | None = None,
    normals: Iterable[np.ndarray] = (),
) -> ExportedGraphs:
    """Write the graph of a float32 detector on the CPU in every format (None: the default ones), and
    `index.safetensors`.

    Raises RunFailed where the detector cannot be traced into an honest graph (see TracedDetector), or where a format
    cannot be written; its sentence names the format.
    """
    folder = Path(folder)
    source = TracedDetector(detector, normals)
    if source.index:
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in source.index.items()}, folder / INDEX)
        (folder / INDEX).chmod(0o644)  # safetensors makes files that their owner alone can read
    if formats is None:
        formats = check_formats(DEFAULT_FORMATS)
    return ExportedGraphs(
        source.graph,
        {export_format.name: _write_format(export_format, source, folder) for export_format in formats},
        {export_format.name: export_format.precision_of(source) for export_format in formats},
    )


def _write_format(export_format: ExportFormat, source: TracedDetector, folder: Path) -> dict[str, Note]:
    before = set(_files(folder))
    try:
        notes = dict(export_format.write(source, folder))
    except VqiError as error:
        raise type(error)(f"The export format {export_format.name} cannot be written: {error}") from error
    except Exception as error:  # whatever the writer of a format, ours or a stranger's, meets
        raise RunFailed(
            f"The export format {export_format.name} cannot be written ({type(error).__name__}: {first_line(error)})."
        ) from error
    if stray := sorted(file for file in set(_files(folder)) - before if not export_format.owns(file)):
        raise RunFailed(
            f"The export format {export_format.name} wrote {stray[0]}, which is not one of its files; mend the format."
        )
    if odd := [name for name, note in notes.items() if not isinstance(note, str | int | float | bool)]:
        raise RunFailed(f"The export format {export_format.name} notes {odd[0]!r} as other than text or a number.")
    return notes


def _files(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
