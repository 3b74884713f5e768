"""Names of images, as compiled packages ask for them."""

import json

import pytest

from vqi.platform.errors import BadInput
from vqi.steps.images import image

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in ("VQI_IMAGES", "VQI_IMAGE_TAG", "VQI_IMAGE_DIGESTS"):
        monkeypatch.delenv(name, raising=False)


def test_a_registry_and_a_tag_of_ones_own(monkeypatch):
    monkeypatch.setenv("VQI_IMAGES", "registry.example.com/parts")
    monkeypatch.setenv("VQI_IMAGE_TAG", "1.2.3")
    assert image("build_index", "gaudi") == "registry.example.com/parts/build-index-gaudi:1.2.3"
    assert image("configure") == image("ingest") == "registry.example.com/parts/ingest:1.2.3"


def test_digests_of_a_build_replace_tags(tmp_path, monkeypatch):
    built = tmp_path / "built.json"
    built.write_text(json.dumps({"ingest": {"containerimage.digest": DIGEST}, "buildx.build.ref": "local/1"}))
    monkeypatch.setenv("VQI_IMAGE_DIGESTS", str(built))
    monkeypatch.setenv("VQI_IMAGE_TAG", "1.2.3")
    assert image("configure") == f"vqi/ingest@{DIGEST}"
    assert image("train", "gaudi") == "vqi/train-gaudi:1.2.3", "what was not built then keeps its tag"


@pytest.mark.parametrize("text", ["", "[1]", '{"ingest": {}}', '{"ingest": {"containerimage.digest": "latest"}}'])
def test_a_file_of_digests_that_is_none_is_named(text, tmp_path, monkeypatch):
    (tmp_path / "built.json").write_text(text)
    monkeypatch.setenv("VQI_IMAGE_DIGESTS", str(tmp_path / "built.json"))
    if text == "[1]":
        monkeypatch.setenv("VQI_IMAGE_DIGESTS", str(tmp_path / "missing.json"))
    with pytest.raises(BadInput, match=r"VQI_IMAGE_DIGESTS names .*json"):
        image("ingest")
