import json
import shutil
from pathlib import Path

import pytest
import torch
from normals import Batches, smooth_images

from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings, method_names, settings_class
from vqi.detectors.storage import load_detector, load_network, read_network, save_index, save_network
from vqi.platform.errors import BadInput
from vqi.storage.weights import WeightsOrigin

# A fixture that takes long is shared by all of them.
pytestmark = pytest.mark.slow

# As published this network has a quarter of a billion parameters.
SMALLER = {"cs_flow": {"hidden_channels": 8}}


@pytest.fixture(scope="module", params=method_names())
def stored(request, tmp_path_factory):
    """A fitted detector and its two artefacts."""
    folder = tmp_path_factory.mktemp(request.param)
    detector = create(
        request.param, SMALLER.get(request.param, {}), BackboneSettings(weights="random"), (64, 64), seed=3
    )
    detector.build_index(Batches(smooth_images(5)))
    (folder / "network").mkdir()
    (folder / "index").mkdir()
    save_network(detector, folder / "network", {"geometry": "as given"})
    save_index(detector, folder / "index", folder / "network")
    return detector, folder


def copied(folder: Path, destination: Path) -> tuple[Path, Path]:
    shutil.copytree(folder, destination / "copy")
    return destination / "copy/network", destination / "copy/index"


def test_scores_are_the_same_bit_for_bit_after_loading(stored):
    detector, folder = stored
    loaded = load_detector(folder / "network", folder / "index")
    images = smooth_images(3, seed=8)
    before, after = detector(images), loaded(images)
    assert torch.equal(before.image, after.image)
    assert torch.equal(before.map, after.map)
    assert (loaded.settings, loaded.seed, loaded.backbone.origin) == (
        detector.settings,
        detector.seed,
        detector.backbone.origin,
    )


def test_notes_describe_the_network(stored):
    detector, folder = stored
    record = read_network(folder / "network")
    assert record.method == detector.method
    assert record.backbone == detector.backbone.settings
    random = WeightsOrigin(kind="random", label="random weights (for tests only)")
    none = WeightsOrigin(kind="none", label="trained from scratch")
    assert record.weights == (random if settings_class(detector.method).uses_backbone else none)
    assert record.notes == {"geometry": "as given"}
    assert load_network(folder / "network").index == {}


def test_nothing_stored_is_a_pickle(stored):
    assert {file.suffix for file in stored[1].rglob("*") if file.is_file()} <= {".json", ".safetensors"}


@pytest.mark.parametrize("part", ["network/network.safetensors", "index/index.safetensors"])
def test_a_damaged_file_is_refused(stored, tmp_path, part):
    network, index = copied(stored[1], tmp_path)
    file = network.parent / part
    if not file.is_file():
        pytest.skip("this method has no such file")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(BadInput, match="does not match the hash"):
        load_detector(network, index)


def test_an_index_of_another_network_is_refused(stored, tmp_path):
    network, index = copied(stored[1], tmp_path)
    value = json.loads((network / "network.json").read_text())
    (network / "network.json").write_text(json.dumps(value | {"seed": 4}))
    with pytest.raises(BadInput, match="built with another network"):
        load_detector(network, index)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": "vqi-network/9"}', '{"format": "vqi-network/1", "method": 3}']
)
def test_an_unreadable_description_is_refused(tmp_path, content):
    (tmp_path / "network.json").write_text(content)
    with pytest.raises(BadInput, match=r"network\.json"):
        read_network(tmp_path)
