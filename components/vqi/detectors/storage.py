"""Detectors on disk: JSON and safetensors, strictly parsed; nothing is pickled.

The network and the index are two artefacts. The network's `network.json` names the hash of its tensors, the index's
`index.json` that of the network it was built with and of its own files: what does not belong together is refused.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from vqi.detectors.engine_record import GRAPH_FILES, EngineRecord
from vqi.detectors.settings import WholeBackbone, parse_settings, settings_class
from vqi.platform.errors import BadInput, VqiError
from vqi.platform.files import sha256_of
from vqi.platform.records import FileRecord, Items, Pair, Record, read_record, write_record
from vqi.storage.weights import WeightsOrigin

if TYPE_CHECKING:
    from torch import Tensor

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
    def of(tensor: Tensor) -> TensorEntry:
        return TensorEntry(shape=tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))


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
    from vqi.detectors.engine import run_by_engine
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
    if record.engine:
        for name, sha256 in record.engine.files.items():
            if name not in GRAPH_FILES:
                raise BadInput(f"{folder / NETWORK} names an unknown file {name!r}; run train again.")
            _check_hash(folder / name, sha256)
        run_by_engine(detector, folder, record.engine)
    return detector.to(device)


def save_index(detector: Detector, folder: Path, network: Path) -> None:
    """Write the index of `detector` into the existing `folder`, tied to the `network` artefact it was built with."""
    from safetensors.torch import save_file

    folder = Path(folder)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in detector.index.items()}
    if tensors:
        save_file(tensors, folder / INDEX_TENSORS)
    record = IndexRecord(
        method=detector.method,
        network_sha256=sha256_of(Path(network) / NETWORK),
        tensors={name: TensorEntry.of(tensor) for name, tensor in tensors.items()},
        files={name: sha256_of(folder / name) for name in (INDEX_TENSORS,) if (folder / name).is_file()},
        notes=tuple(detector.build_notes),
        versions=versions(),
    )
    write_record(folder / INDEX, record)


def load_detector(network: Path, index: Path, device: str = "cpu") -> Detector:
    """The whole detector. Raises BadInput where an artefact is damaged, or the index was built with another network."""
    index = Path(index)
    record = read_record(IndexRecord, index / INDEX, f": {index} is not an output of the build_index step")
    if record.network_sha256 != sha256_of(_existing(Path(network) / NETWORK, "train")):
        raise BadInput(
            f"The index {index} was built with another network than {network}; run build_index with this one."
        )
    detector = load_network(network, device)
    tensors: dict[str, Tensor] = {}
    for name, sha256 in record.files.items():
        if name != INDEX_TENSORS:
            raise BadInput(f"{index / INDEX} names an unknown file {name!r}; run build_index again.")
        _check_hash(index / name, sha256)
        tensors |= _read_tensors(index / name)
    if {name: TensorEntry.of(tensor) for name, tensor in tensors.items()} != record.tensors:
        raise BadInput(f"{index / INDEX} lists other tensors than its files hold; run build_index again.")
    detector.index = {name: tensor.to(device) for name, tensor in tensors.items()}
    detector.build_notes = list(record.notes)
    return detector


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

    try:
        return load_file(path)
    except VqiError:
        raise
    except Exception as error:  # safetensors raises its own error for any damage
        raise BadInput(f"{path} cannot be read ({type(error).__name__}); it is damaged.") from error
