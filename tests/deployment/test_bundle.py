from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from vqi.dataset.decoding import DEFAULT, Decoding
from vqi.deployment.bundle import read_sidecar, write_sidecar
from vqi.deployment.graph_runtime import open_graph
from vqi.deployment.sidecar import DecodingEntry, Graph, ReferenceEntry
from vqi.platform.devices import PRECISIONS
from vqi.platform.errors import BadInput
from vqi.platform.files import sha256_of


@pytest.fixture
def bundle(toy_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_bundle, tmp_path / "bundle"))


def change(bundle: Path, *keys: str, value) -> None:
    whole = json.loads((bundle / "bundle.json").read_text())
    part = whole
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (bundle / "bundle.json").write_text(json.dumps(whole))


def test_a_sidecar_describes_how_an_image_is_prepared_and_judged(bundle: Path) -> None:
    value = json.loads((bundle / "bundle.json").read_text())
    assert value["format"] == "vqi-bundle/4"
    assert value["preprocessing"] == {
        "decoding": DEFAULT.to_dict(),
        "colour": "RGB",
        "range": [0, 1],
        "resize": "antialiased bilinear",
        "normalisation": "inside the graph",
        "geometry": {"size": [64, 64], "crop": [48, 56], "region": None},
    }
    assert set(value["files"]) == {"index.safetensors", "golden.safetensors"}
    assert [len(scores) for scores in value["golden"]["scores"].values()] == [2]
    formats = value["formats"]
    assert {name: set(entry["files"]) for name, entry in formats.items()} == {
        "onnx": {"model.onnx"},
        "openvino": {"openvino/model.xml", "openvino/model.bin"},
    }
    assert {entry["precision"] for entry in formats.values()} == {"float32"}
    assert formats["onnx"]["notes"] == {"opset": 20}
    assert formats["onnx"]["files"]["model.onnx"]["sha256"] == sha256_of(bundle / "model.onnx")
    assert read_sidecar(bundle).calibration.guarantee == "At most 1 of 9 normals is rejected."


@pytest.mark.parametrize(
    ("keys", "value", "sentence"),
    [
        (("format",), "vqi-bundle/9", "this version reads 'vqi-bundle/4'; a newer vqi made it"),
        (
            ("format",),
            "vqi-bundle/1",
            "does not hold how files are decoded, the calibration scores .*: run the category again",
        ),
        (("format",), "thesis", "this version reads 'vqi-bundle/4'; export again"),
        (("surprise",), 1, "malformed at surprise"),
        (("thresholds", "image"), "0.5", "malformed at thresholds.image"),
        (("thresholds", "image"), float("nan"), "malformed at thresholds.image"),
        (("files", "../../etc/passwd"), {"sha256": "0" * 64, "bytes": 1}, "malformed at files"),
        (("files",), {}, "does not name index.safetensors"),
        (
            ("formats", "onnx", "files", "model.onnx", "sha256"),
            "0" * 64,
            "model.onnx of the bundle .*, of its format onnx, is not the one that was exported",
        ),
        (("formats", "onnx", "files", "../../etc/passwd"), {"sha256": "0" * 64, "bytes": 1}, "malformed at formats"),
        (
            ("formats", "onnx", "files", "openvino/model.bin"),
            {"sha256": "0" * 64, "bytes": 1},
            r"malformed at formats.onnx.files.openvino/model.bin \(not a file of this format\)",
        ),
        (("formats", "onnx", "files"), {}, "does not name model.onnx of its format onnx"),
        (("formats", "onnx", "offset"), 1, r"malformed at formats.onnx.offset \(this version knows no such key\)"),
        (("formats", "onnx", "install"), "x; rm -rf /", "malformed at formats.onnx.install"),
        (("formats", "Not a name"), {}, "malformed at formats"),
        (("preprocessing", "colour"), "BGR", "malformed at preprocessing.colour"),
        (("preprocessing", "geometry", "crop"), None, "contradicts itself"),
        (("preprocessing", "geometry", "size"), [9, 10**9], "between 32 and 16384"),
        (("graph", "precision"), "bfloat16", "malformed at graph.precision"),
        (("preprocessing", "decoding", "white_level"), "4095", "malformed at preprocessing.decoding.white_level"),
        (("preprocessing", "decoding", "gamma"), 2.2, "malformed at preprocessing.decoding.gamma"),
        (
            ("preprocessing", "decoding"),
            {"white_level": 4095},
            "malformed at preprocessing.decoding .*max_pixels is missing",
        ),
        (("calibration", "precision"), "float8", "malformed at calibration.precision .*float32.*bfloat16.*float16"),
        (("calibration", "scores"), [], "malformed at calibration.scores"),
        (("plausibility", "ranges"), {}, "malformed at plausibility .*side, aspect"),
        (("graph", "bytes_per_image"), 0, "malformed at graph.bytes_per_image"),
    ],
)
def test_a_sidecar_that_was_tampered_with_is_refused_in_one_sentence(bundle: Path, keys, value, sentence: str) -> None:
    change(bundle, *keys, value=value)
    with pytest.raises(BadInput, match=sentence) as caught:
        read_sidecar(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"format": "vqi-bundle/2"}', b'{"format": "vqi-bundle/4"}']
)
def test_a_sidecar_that_is_none_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / "bundle.json").write_bytes(content)
    with pytest.raises(BadInput, match=r"bundle\.json"):
        read_sidecar(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "openvino/model.xml", "openvino/model.bin", "index.safetensors"])
def test_a_missing_and_a_changed_file_are_refused(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BadInput, match=f"{name} .* SHA-256"):
        read_sidecar(bundle)
    (bundle / name).unlink()
    with pytest.raises(BadInput, match=f"lacks its file {name}"):
        read_sidecar(bundle)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a bundle"):
        read_sidecar(tmp_path / "absent")


def test_an_index_that_does_not_fit_its_sidecar_is_refused(bundle: Path) -> None:
    sidecar = read_sidecar(bundle)
    save_file({"bank": np.zeros((3, 16), np.float32)}, bundle / "index.safetensors")
    with pytest.raises(BadInput, match="does not hold the index tensors"):
        open_graph(bundle, sidecar)
    (bundle / "index.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(BadInput, match="not a readable index"):
        open_graph(bundle, sidecar)


@pytest.mark.parametrize(
    ("backend", "device", "sentence"),
    [
        ("openvin", "cpu", "Did you mean 'openvino'"),
        ("openvino", "tpu", "no device 'tpu' here; it has cpu"),
        ("onnxruntime", "tpu", "it has cpu"),
    ],
)
def test_an_unknown_backend_or_device_is_refused(bundle: Path, backend: str, device: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        open_graph(bundle, read_sidecar(bundle), backend, device)


@pytest.mark.parametrize(("bytes_per_image", "batch"), [(1, 8), (512 * 2**20 // 3, 3), (2**40, 1)])
def test_the_batch_is_bounded_by_the_largest_tensor(bytes_per_image: int, batch: int) -> None:
    assert Graph(input_shape=[None, 3, 32, 32], index=[], bytes_per_image=bytes_per_image).batch_size == batch


def test_a_threshold_that_promises_nothing_has_no_rate(bundle: Path) -> None:
    change(bundle, "calibration", "kind", value="seen")
    change(bundle, "calibration", "false_reject_rate", value=None)
    assert read_sidecar(bundle).calibration.false_reject_rate is None


def test_every_field_of_a_decoding_is_in_the_bundle() -> None:
    decoding = Decoding(white_level=4095)
    assert asdict(DecodingEntry(**asdict(decoding))) == asdict(decoding)


def test_what_cameras_and_a_reference_add_is_read_as_it_was_written(bundle: Path) -> None:
    sidecar = read_sidecar(bundle)
    decoding = DecodingEntry(white_level=4095, float_black=-1.5, float_white=2.0, profiles=True)
    reference = ReferenceEntry("a.png", 48, 64, "AAAA", 0.2, 15.0)
    preprocessing = sidecar.preprocessing.model_copy(update={"decoding": decoding, "alignment": reference})
    write_sidecar(bundle, sidecar.model_copy(update={"preprocessing": preprocessing}))
    again = read_sidecar(bundle)
    assert (again.decoding, again.reference) == (decoding, reference)
    assert json.loads((bundle / "bundle.json").read_text())["preprocessing"]["decoding"]["profiles"] is True
    change(bundle, "preprocessing", "alignment", "height", value=0)
    with pytest.raises(BadInput, match=r"malformed at preprocessing\.alignment"):
        read_sidecar(bundle)


def test_a_bundle_copied_as_a_link_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "bundle").symlink_to("artifacts/export/bundle")
    with pytest.raises(
        BadInput, match="is a link to artifacts/export/bundle, which is not here; copy the folder itself"
    ):
        read_sidecar(tmp_path / "bundle")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_thresholds_may_be_taken_in_any_precision_a_category_offers(bundle: Path, precision: str) -> None:
    change(bundle, "calibration", "precision", value=precision)
    assert read_sidecar(bundle).calibration.precision == precision
