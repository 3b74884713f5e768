"""Detectors on disk: JSON and safetensors, strictly parsed; nothing is pickled.

The network and the index are two artefacts. The network's `network.json` names the hash of its tensors, the index's
`index.json` that of the network it was built with and of its own files: what does not belong together is refused.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqi.detectors.settings import BackboneSettings, parse_settings, settings_class
from vqi.platform.errors import BadInput, VqiError
from vqi.platform.files import sha256_of, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from vqi.detectors.interface import Detector

NETWORK_FORMAT = "vqi-network/1"
INDEX_FORMAT = "vqi-index/2"
NETWORK, INDEX = "network.json", "index.json"
NETWORK_TENSORS, INDEX_TENSORS = "network.safetensors", "index.safetensors"


def save_network(detector: Detector, folder: Path, notes: Mapping[str, Any]) -> None:
    """Write the network artefact into the existing `folder`. `notes`: JSON values to be found again (geometry, the
    set's fingerprint)."""
    from safetensors.torch import save_file

    folder = Path(folder)
    kept = {
        name: tensor for name, tensor in detector.state_dict().items() if not name.startswith(detector.training_only)
    }
    save_file({name: tensor.cpu().contiguous().clone() for name, tensor in kept.items()}, folder / NETWORK_TENSORS)
    backbone: Any = detector.backbone
    value = {
        "format": NETWORK_FORMAT,
        "method": detector.method,
        "settings": detector.settings.model_dump(),
        "backbone": backbone.settings.model_dump(mode="json"),
        "weights": dataclasses.asdict(backbone.origin),
        "input_size": list(detector.input_size),
        "seed": detector.seed,
        "notes": dict(notes),
        "tensors_sha256": sha256_of(folder / NETWORK_TENSORS),
        "versions": versions(),
    }
    write_json(folder / NETWORK, value)


def read_network_notes(folder: Path) -> dict[str, Any]:
    """What `network.json` says, checked; needs no torch.

    Keys: method, settings, backbone (with its layers), weights (kind, label, sha256), input_size, seed, notes,
    tensors_sha256, versions.
    """
    value = _read_json(Path(folder) / NETWORK, NETWORK_FORMAT, "train")
    types = {
        "method": str,
        "settings": dict,
        "backbone": dict,
        "weights": dict,
        "input_size": list,
        "seed": int,
        "notes": dict,
    }
    _check_types(Path(folder) / NETWORK, value, types | {"tensors_sha256": str, "versions": dict})
    _check_types(Path(folder) / NETWORK, value["weights"], {"kind": str, "label": str, "sha256": str})
    return value


def load_network(folder: Path, device: str = "cpu") -> Detector:
    """The detector of a network artefact, its index empty. Raises BadInput where the artefact is damaged or of another
    version."""
    from vqi.detectors.backbones import empty_backbone, no_backbone
    from vqi.detectors.registry import assemble, detector_class
    from vqi.storage.weights import WeightsOrigin

    folder = Path(folder)
    value = read_network_notes(folder)
    _check_hash(folder / NETWORK_TENSORS, value["tensors_sha256"])
    kind = detector_class(value["method"])
    size = value["input_size"]
    if len(size) != 2 or not all(isinstance(side, int) and 32 <= side <= 4096 for side in size):
        raise BadInput(f"{folder / NETWORK} has input_size {size}; it must be height and width.")
    if settings_class(value["method"]).uses_backbone:
        backbone = empty_backbone(
            _backbone_settings(folder / NETWORK, value["backbone"]), kind.default_layers, value["seed"]
        )
    else:
        backbone = no_backbone()
    backbone.origin = WeightsOrigin(value["weights"]["kind"], value["weights"]["label"], value["weights"]["sha256"])
    detector = assemble(
        value["method"], parse_settings(value["method"], value["settings"]), backbone, (size[0], size[1]), value["seed"]
    )
    try:
        training = {
            name: tensor for name, tensor in detector.state_dict().items() if name.startswith(detector.training_only)
        }
        detector.load_state_dict(training | _read_tensors(folder / NETWORK_TENSORS), strict=True)
    except RuntimeError as error:
        raise BadInput(
            f"{folder / NETWORK_TENSORS} does not fit {value['backbone'].get('name')}: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    return detector.to(device)


def save_index(detector: Detector, folder: Path, network: Path) -> None:
    """Write the index of `detector` into the existing `folder`, tied to the `network` artefact it was built with."""
    from safetensors.torch import save_file

    folder = Path(folder)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in detector.index.items()}
    value: dict[str, Any] = {
        "format": INDEX_FORMAT,
        "method": detector.method,
        "network_sha256": sha256_of(Path(network) / NETWORK),
    }
    value["tensors"] = {
        name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for name, tensor in tensors.items()
    }
    if tensors:
        save_file(tensors, folder / INDEX_TENSORS)
    value["files"] = {name: sha256_of(folder / name) for name in (INDEX_TENSORS,) if (folder / name).is_file()}
    write_json(folder / INDEX, value | {"notes": detector.build_notes, "versions": versions()})


def load_detector(network: Path, index: Path, device: str = "cpu") -> Detector:
    """The whole detector. Raises BadInput where an artefact is damaged, or the index was built with another network."""
    index = Path(index)
    value = _read_json(index / INDEX, INDEX_FORMAT, "build_index")
    _check_types(
        index / INDEX, value, {"method": str, "network_sha256": str, "tensors": dict, "files": dict, "notes": list}
    )
    if value["network_sha256"] != sha256_of(_existing(Path(network) / NETWORK, "train")):
        raise BadInput(
            f"The index {index} was built with another network than {network}; run build_index with this one."
        )
    detector = load_network(network, device)
    tensors: dict[str, Tensor] = {}
    for name, sha256 in value["files"].items():
        if name != INDEX_TENSORS:
            raise BadInput(f"{index / INDEX} names an unknown file {name!r}; run build_index again.")
        _check_hash(index / name, sha256)
        tensors |= _read_tensors(index / name)
    descriptions = {
        name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for name, tensor in tensors.items()
    }
    if descriptions != value["tensors"]:
        raise BadInput(f"{index / INDEX} lists other tensors than its files hold; run build_index again.")
    detector.index = {name: tensor.to(device) for name, tensor in tensors.items()}
    detector.build_notes = [str(note) for note in value["notes"]]
    return detector


def versions() -> dict[str, str]:
    """What may matter to whoever compares two runs."""
    installed = {"python": platform.python_version()}
    for name in ("vqi", "torch", "torchvision", "numpy", "scikit-learn", "scikit-learn-intelex"):
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _backbone_settings(path: Path, value: dict[str, Any]) -> BackboneSettings:
    _check_types(path, value, {"name": str, "weights": str, "sha256": str, "layers": list, "mean": list, "std": list})
    if (
        len(value) != 6
        or not all(isinstance(layer, str) for layer in value["layers"])
        or any(len(value[key]) != 3 for key in ("mean", "std"))
    ):
        raise BadInput(f"{path} has a backbone that cannot be read; run train again.")
    mean, std = (tuple(float(item) for item in value[key]) for key in ("mean", "std"))
    return BackboneSettings.model_validate({**value, "mean": mean, "std": std})


def _existing(path: Path, step: str) -> Path:
    if not path.is_file():
        raise BadInput(f"{path} is missing: {path.parent} is not an output of the {step} step.")
    return path


def _read_json(path: Path, form: str, step: str) -> dict[str, Any]:
    try:
        value = json.loads(_existing(path, step).read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path} is not readable JSON ({error}); run {step} again.") from error
    stored_format = value.get("format") if isinstance(value, dict) else None
    if stored_format != form:
        raise BadInput(f"{path} has format {stored_format!r}, this version reads {form!r}; run {step} again.")
    return value


def _check_types(path: Path, value: dict[str, Any], types: dict[str, type]) -> None:
    for key, kind in types.items():
        if not isinstance(value.get(key), kind) or isinstance(value.get(key), bool):
            raise BadInput(f"{path} has no usable {key!r}; it was edited or damaged.")


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
