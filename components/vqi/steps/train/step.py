"""train: prepare the network and store it. Methods with a frozen backbone store it as it came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vqi.dataset.geometry import Geometry
from vqi.dataset.reader import Dataset
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.detectors.storage import save_network
from vqi.platform.devices import Compute, place
from vqi.platform.errors import BadInput
from vqi.platform.files import whole_folder


def train(
    *,
    dataset: Path,
    method: str,
    settings: dict[str, Any],
    backbone: BackboneSettings,
    geometry: Geometry,
    compute: Compute,
    seed: int,
    network: Path,
) -> None:
    """Write the network artefact of `method`, trained on the train normals, to `network`.

    Raises BadInput where there are no normals, or the settings, the network or its weights cannot be used.
    """
    opened = Dataset(dataset)
    normals = opened.samples("train", "good")
    if not normals:
        raise BadInput(f"The Dataset {opened.manifest.name!r} has no normal images to train on; its train split is empty.")
    detector = place(create(method, settings, backbone, geometry.input_size, seed), compute)
    notes = {"dataset": opened.manifest.name, "dataset_fingerprint": opened.manifest.fingerprint, "geometry": geometry.to_dict()}
    with whole_folder(network) as folder:
        save_network(detector, folder, notes | {"precision": compute.precision})
