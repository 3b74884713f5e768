"""Detectors on disk: JSON and safetensors, strictly parsed; nothing is pickled.

The network and the index are two artefacts. The network's `network.json` names the hash of its tensors, the index's
`index.json` that of the network it was built with and of its own files: what does not belong together is refused.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from vqi.detectors.arrays import Array, to_numpy
from vqi.detectors.engine_record import GRAPH_FILES, EngineRecord
from vqi.detectors.settings import WholeBackbone, parse_settings, settings_class
from vqi.platform.devices import Compute, is_processor
from vqi.platform.errors import BadInput, VqiError
from vqi.platform.files import sha256_of
from vqi.platform.records import FileRecord, Items, Pair, Record, read_record, write_record
from vqi.storage.weights import WeightsOrigin

if TYPE_CHECKING:
    from torch import Tensor

    from vqi.detectors.indexed import Indexed
    from vqi.detectors.interface import Detector

NETWORK, INDEX = "network.json", "index.json"
NETWORK_TENSORS, INDEX_TENSORS = "network.safetensors", "index.safetensors"
Side = Annotated[int, Field(ge=32, le=4096)]


class NetworkRecord(FileRecord):
    """`network.json`. `input_size` is height and width; `notes` are what train gave to be kept
    (`vqi.training.record.NetworkNotes`); `engine` runs it (None, as earlier versions wrote it: torch)."""

    format_name: ClassVar[str] = "vqi-network/1"
    remedy: ClassVar[str] = "run train again"
    left_out: ClassVar[frozenset[str]] = frozenset({"engine"})

    method: str
    settings: dict[str, Any]
    backbone: WholeBackbone
    weights: WeightsOrigin
    input_size: Pair[Side]
    seed: int
    notes: dict[str, Any]
    tensors_sha256: str
    versions: dict[str, str]
    engine: EngineRecord | None = None


class TensorEntry(Record):
    """Shape and dtype of a tensor of the index."""

    shape: Items[int]
    dtype: str

    @staticmethod
    def of(values: Array) -> TensorEntry:
        return TensorEntry(shape=tuple(values.shape), dtype=str(values.dtype).removeprefix("torch."))


class IndexRecord(FileRecord):
    """`index.json`: the network it was built with, its tensors, the hashes of its files, and sentences about how it was
    built."""

    format_name: ClassVar[str] = "vqi-index/2"
    remedy: ClassVar[str] = "run build_index again"

    method: str
    network_sha256: str
    tensors: dict[str, TensorEntry]
    files: dict[str, str]
    notes: Items[str]
    versions: dict[str, str]


def save_network(
    detector: Detector, folder: Path, notes: Mapping[str, Any], engine: EngineRecord | None = None
) -> None:
    """Write the network artefact into the existing `folder`. `notes`: JSON values to be found again (geometry, the
    set's fingerprint). `engine`: what runs it, its graph in `folder` already."""
    from safetensors.torch import save_file

    folder = Path(folder)
    kept = {
        name: tensor for name, tensor in detector.state_dict().items() if not name.startswith(detector.training_only)
    }
    save_file({name: tensor.cpu().contiguous().clone() for name, tensor in kept.items()}, folder / NETWORK_TENSORS)
    backbone: Any = detector.backbone
    record = NetworkRecord(
        method=detector.method,
        settings=detector.settings.model_dump(),
        backbone=backbone.settings,
        weights=backbone.origin,
        input_size=detector.input_size,
        seed=detector.seed,
        notes=dict(notes),
        tensors_sha256=sha256_of(folder / NETWORK_TENSORS),
        versions=versions(),
        engine=engine,
    )
    write_record(folder / NETWORK, record)


def read_network(folder: Path) -> NetworkRecord:
    """The record of a network artefact; needs no torch. Raises BadInput where it is missing, damaged or of another
    format."""
    return read_record(NetworkRecord, Path(folder) / NETWORK, f": {folder} is not an output of the train step")


def load_network(folder: Path, device: str = "cpu") -> Detector:
    """The detector of a network artefact, its index empty, run by the engine that the artefact names. Raises BadInput
    where the artefact is damaged or of another version, or its engine is not to be had."""
    from vqi.detectors.backbones import empty_backbone, no_backbone
    from vqi.detectors.engine import engine_of
    from vqi.detectors.network_graph import embeds
    from vqi.detectors.registry import assemble, detector_class

    folder = Path(folder)
    record = read_network(folder)
    _check_hash(folder / NETWORK_TENSORS, record.tensors_sha256)
    if settings_class(record.method).uses_backbone:
        backbone = empty_backbone(record.backbone, detector_class(record.method).default_layers, record.seed)
    else:
        backbone = no_backbone()
    backbone.origin = record.weights
    settings = parse_settings(record.method, record.settings)
    detector = assemble(record.method, settings, backbone, record.input_size, record.seed)
    try:
        training = {
            name: tensor for name, tensor in detector.state_dict().items() if name.startswith(detector.training_only)
        }
        detector.load_state_dict(training | _read_tensors(folder / NETWORK_TENSORS), strict=True)
    except RuntimeError as error:
        raise BadInput(
            f"{folder / NETWORK_TENSORS} does not fit {record.backbone.name}: {str(error).splitlines()[-1].strip()}"
        ) from error
    _check_engine(folder, record)
    detector.engine = engine_of(folder, record.engine, embeds(detector))
    return detector.to(device)


def _check_engine(folder: Path, record: NetworkRecord) -> None:
    """Raise BadInput where the engine's files are not those that its record names."""
    for name, sha256 in (record.engine.files if record.engine else {}).items():
        if name not in GRAPH_FILES:
            raise BadInput(f"{folder / NETWORK} names an unknown file {name!r}; run train again.")
        _check_hash(folder / name, sha256)


def load_for_index(network: Path, compute: Compute) -> Indexed:
    """What build_index needs of a network artefact, on the device of `compute`: without torch where an engine runs the
    network and its method can. Raises BadInput as `load_network` does."""
    folder = Path(network)
    record = read_network(folder)
    name = settings_class(record.method).on_engine
    engine = record.engine
    if name and engine and engine.grid and is_processor(compute) and importlib.util.find_spec("openvino") is not None:
        _check_engine(folder, record)
        module, _, kind = name.partition(":")
        settings = parse_settings(record.method, record.settings)
        made: Indexed = getattr(importlib.import_module(module), kind)(
            settings, record.input_size, record.seed, folder, engine
        )
        made.engine = made.engine and made.engine.for_compute(compute)
        return made
    from vqi.detectors.compute import to_device

    return to_device(load_network(folder), compute)


def load_for_scores(network: Path, index: Path, compute: Compute) -> Indexed:
    """The same with its index, as evaluate needs it. Raises BadInput as `load_detector` does."""
    record = _read_index(network, index)
    detector = load_for_index(network, compute)
    detector.index = {name: detector.own(values) for name, values in _read_index_arrays(Path(index), record).items()}
    detector.build_notes = list(record.notes)
    return detector


def save_index(detector: Indexed, folder: Path, network: Path) -> None:
    """Write the index of `detector` into the existing `folder`, tied to the `network` artefact it was built with."""
    from safetensors.numpy import save_file

    folder = Path(folder)
    tensors = {name: np.ascontiguousarray(to_numpy(values)) for name, values in detector.index.items()}
    if tensors:
        save_file(tensors, folder / INDEX_TENSORS)
    record = IndexRecord(
        method=read_network(network).method,
        network_sha256=sha256_of(Path(network) / NETWORK),
        tensors={name: TensorEntry.of(tensor) for name, tensor in tensors.items()},
        files={name: sha256_of(folder / name) for name in (INDEX_TENSORS,) if (folder / name).is_file()},
        notes=tuple(detector.build_notes),
        versions=versions(),
    )
    write_record(folder / INDEX, record)


def load_detector(network: Path, index: Path, device: str = "cpu") -> Detector:
    """The whole detector. Raises BadInput where an artefact is damaged, or the index was built with another network."""
    import torch

    record = _read_index(network, index)
    detector = load_network(network, device)
    arrays = _read_index_arrays(Path(index), record)
    detector.index = {name: torch.from_numpy(values).to(device) for name, values in arrays.items()}
    detector.build_notes = list(record.notes)
    return detector


def _read_index(network: Path, index: Path) -> IndexRecord:
    record = read_record(IndexRecord, Path(index) / INDEX, f": {index} is not an output of the build_index step")
    if record.network_sha256 != sha256_of(_existing(Path(network) / NETWORK, "train")):
        raise BadInput(
            f"The index {index} was built with another network than {network}; run build_index with this one."
        )
    return record


def _read_index_arrays(index: Path, record: IndexRecord) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for name, sha256 in record.files.items():
        if name != INDEX_TENSORS:
            raise BadInput(f"{index / INDEX} names an unknown file {name!r}; run build_index again.")
        _check_hash(index / name, sha256)
        arrays |= _read_arrays(index / name)
    if {name: TensorEntry.of(values) for name, values in arrays.items()} != record.tensors:
        raise BadInput(f"{index / INDEX} lists other tensors than its files hold; run build_index again.")
    return arrays


def versions() -> dict[str, str]:
    """What may matter to whoever compares two runs."""
    installed = {"python": platform.python_version()}
    for name in ("vqi", "torch", "torchvision", "numpy", "scikit-learn", "scikit-learn-intelex", "openvino"):
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _existing(path: Path, step: str) -> Path:
    if not path.is_file():
        raise BadInput(f"{path} is missing: {path.parent} is not an output of the {step} step.")
    return path


def _check_hash(path: Path, sha256: str) -> None:
    if sha256_of(_existing(path, "train or build_index")) != sha256:
        raise BadInput(f"{path} does not match the hash its artefact names: it was edited or damaged.")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return _read_file(path, load_file)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return _read_file(path, load_file)


def _read_file(path: Path, load: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    try:
        return load(path)
    except VqiError:
        raise
    except Exception as error:  # safetensors raises its own error for any damage
        raise BadInput(f"{path} cannot be read ({type(error).__name__}); it is damaged.") from error
