"""A bundle's graph running in one of its formats: the index is handed over once, then images go in and raw scores come
out. No torch, unless a format needs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vqi.deployment.bundle_files import INDEX
from vqi.deployment.exports import ExportFormat, export_formats, graphs_of, preferred
from vqi.deployment.exports.export_format import Infer
from vqi.deployment.sidecar import Graph, Sidecar
from vqi.platform.errors import BadInput, RunFailed, VqiError, closest
from vqi.platform.logs import logger
from vqi.platform.threads import thread_limit

log = logger(__name__)


class GraphRuntime:
    """One format's graph, loaded, for images of one size (height, width)."""

    def __init__(self, backend: str, input_size: tuple[int, int], infer: Infer) -> None:
        self.backend, self.input_size = backend, input_size
        self._infer = infer

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Raw scores float32 [N] and maps float32 [N, h, w] of float32 [N, 3, h, w] in [0, 1], N >= 1.

        Raises BadInput where the images are others than the graph takes, and RunFailed where the backend fails or
        answers something else.
        """
        height, width = self.input_size
        if images.dtype != np.float32 or images.ndim != 4 or images.shape[1:] != (3, height, width) or len(images) == 0:
            raise BadInput(
                f"The images are {images.dtype} of shape {list(images.shape)}; this graph takes float32, [images, 3, "
                f"{height}, {width}]."
            )
        try:
            scores, maps = (np.asarray(values) for values in self._infer(images))
        except Exception as error:  # each runtime has exception classes of its own, and they have no common base
            raise RunFailed(
                f"{self.backend} failed on a batch of {len(images)}: {_one_line(error)}; try a smaller batch."
            ) from error
        if scores.shape != (len(images),) or maps.shape != (len(images), height, width):
            raise RunFailed(
                f"{self.backend} answered a batch of {len(images)} with scores of shape {list(scores.shape)} and maps "
                f"of shape {list(maps.shape)}; its export format is at fault."
            )
        return scores, maps


def open_graph(
    folder: Path, sidecar: Sidecar, backend: str = "auto", device: str = "cpu", threads: int = 0
) -> GraphRuntime:
    """The graph of a bundle whose files were checked, on `backend`; `threads` 0 = the backend's choice, within this
    container's CPU limit.

    auto: of the formats inside that can run here, the preferred one of those that have the device. Raises BadInput
    where the backend is unknown, not inside or not installed, where no format inside can run here, and where the index
    does not fit the sidecar.
    """
    chosen = _choose(folder, sidecar, device) if backend == "auto" else _find(folder, sidecar, backend)
    entry = sidecar.formats[chosen.name]
    shift = sidecar.calibration.precision_shift
    if shift is not None and entry.own is None and entry.precision != sidecar.calibration.precision:
        log.warning(
            f"the thresholds of this bundle were taken in {sidecar.calibration.precision}, and {chosen.backend} "
            f"computes in {entry.precision}: scores deviate by up to {100 * shift:.2g} % (measured at export)"
        )
    if entry.accuracy is not None and entry.own is None:
        log.warning(
            f"the thresholds of this bundle are the detector's, in {sidecar.calibration.precision}; what they promise "
            f"is not known to hold for {chosen.backend}"
        )
    return open_format(chosen, folder, sidecar.graph, device, threads)


def open_format(
    export_format: ExportFormat, folder: Path, graph: Graph, device: str = "cpu", threads: int = 0
) -> GraphRuntime:
    """The graph of the bundle `folder` in one format. Raises BadInput where the index or the device does not fit, and
    RunFailed where the format cannot be opened."""
    index = read_index(folder, graph)
    try:
        infer = export_format.open(Path(folder), graph.input_size, index, device, threads or thread_limit())
    except VqiError as error:
        raise type(error)(f"The format {export_format.name} cannot be opened: {error}") from error
    except Exception as error:  # whatever the runtime, or a stranger's format, meets
        raise RunFailed(
            f"The format {export_format.name} of the bundle {folder} cannot be opened ({type(error).__name__}: "
            f"{_one_line(error)}); export again, or use another backend."
        ) from error
    return GraphRuntime(export_format.backend, graph.input_size, infer)


def _choose(folder: Path, sidecar: Sidecar, device: str) -> ExportFormat:
    """What `auto` is."""
    known = export_formats()
    inside = preferred(graphs_of([known[name] for name in sidecar.formats if name in known]))
    if inside and all(export_format.by_name_alone for export_format in inside):
        raise BadInput(
            f"The bundle {folder} holds the graph as {_listed([one.name for one in inside])} alone, which is opened "
            f"only where it is named; add --backend {inside[0].backend} if you trust where the bundle comes from."
        )
    inside = [export_format for export_format in inside if not export_format.by_name_alone]
    usable = [export_format for export_format in inside if not export_format.missing_to_open()]
    if not usable:
        raise BadInput(
            f"The bundle {folder} holds the graph as {_listed(list(sidecar.formats))}, and nothing here runs "
            f"{'them' if len(sidecar.formats) > 1 else 'it'}; install {_remedies(sidecar)}."
        )
    # None that has the device: the first says which it has.
    return next((export_format for export_format in usable if device in export_format.devices), usable[0])


def _remedies(sidecar: Sidecar) -> str:
    """The packages that run the formats inside, each with its formats."""
    packages: dict[str, list[str]] = {}
    for name, entry in sidecar.formats.items():
        packages.setdefault(entry.install, []).append(name)
    return " or ".join(f"{package} ({', '.join(names)})" for package, names in packages.items())


def _find(folder: Path, sidecar: Sidecar, backend: str) -> ExportFormat:
    """The format of a bundle that a backend runs."""
    backends = {export_format.backend: export_format for export_format in export_formats().values()}
    inside = {entry.backend: entry for entry in sidecar.formats.values()}
    chosen = backends.get(backend)
    if chosen and chosen.name in sidecar.formats and not chosen.missing_to_open():
        return chosen
    if backend in inside:
        raise BadInput(f"The backend {backend} is not installed here; install {inside[backend].install}.")
    if chosen:
        raise BadInput(
            f"The bundle {folder} holds nothing for the backend {backend}; it holds {_listed(list(sidecar.formats))} "
            f"for {_listed(list(inside))}."
        )
    raise BadInput(f"The backend is {backend!r}, which is not a backend.{closest(backend, ['auto', *backends])}")


def read_index(folder: Path, graph: Graph) -> dict[str, np.ndarray]:
    """The index tensors of a bundle, by name, sorted. Raises BadInput where they are not those that `graph` names."""
    expected = {tensor.name: (tensor.dtype, tuple(tensor.shape)) for tensor in graph.index}
    if not expected:
        return {}
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(folder) / INDEX
    try:
        index = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(f"{path} is not a readable index ({_one_line(error)}); export again.") from error
    tensors = {name: (str(value.dtype), value.shape) for name, value in index.items()}
    if tensors != expected:
        raise BadInput(f"{path} does not hold the index tensors that its bundle.json names; export again.")
    return {name: np.ascontiguousarray(value) for name, value in sorted(index.items())}


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "nothing"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
