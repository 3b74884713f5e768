from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from toy_bundle import GEOMETRY, ToyDetector, photograph, toy_detector
from vqi.dataset.geometry import to_input
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.exports import ExportFormat, check_formats
from vqi.deployment.graph_export import export_graphs
from vqi.detectors.interface import Scores
from vqi.platform.errors import RunFailed

FORMATS = check_formats(("onnx", "openvino"))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([to_input(GEOMETRY.apply(photograph(20 + seed, seed % 2 == 1))) for seed in range(7)])


@pytest.mark.parametrize("export_format", FORMATS, ids=lambda export_format: export_format.name)
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_graph_gives_the_detectors_scores_at_any_batch(
    toy_bundle: Path, images: np.ndarray, export_format: ExportFormat, batch: int
) -> None:
    detector = toy_detector()
    with torch.inference_mode():
        expected = detector(torch.from_numpy(images))
    infer = export_format.open(toy_bundle, GEOMETRY.input_size, {"bank": detector.index["bank"].numpy()}, "cpu", 2)
    for start in range(0, 7, batch):
        score, values = infer(images[start : start + batch])
        np.testing.assert_allclose(score, expected.image[start : start + batch], rtol=1e-3)
        np.testing.assert_allclose(values, expected.map[start : start + batch], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("export_format", FORMATS, ids=lambda export_format: export_format.name)
def test_another_bank_length_needs_no_new_graph(
    toy_bundle: Path, images: np.ndarray, export_format: ExportFormat
) -> None:
    detector = toy_detector()
    detector.index = {"bank": detector.index["bank"][::3].contiguous()}
    with torch.inference_mode():
        expected = detector(torch.from_numpy(images)).image
    bank = {"bank": detector.index["bank"].numpy()}
    score, _ = export_format.open(toy_bundle, GEOMETRY.input_size, bank, "cpu", 2)(images)
    np.testing.assert_allclose(score, expected, rtol=1e-3)


def test_inputs_and_outputs_are_named_and_dynamic(toy_bundle: Path) -> None:
    graph = onnx.load(toy_bundle / "model.onnx").graph
    axes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }
    assert axes == {
        "images": ["batch", 3, 48, 56],
        "bank": ["bank_length", 16],
        "score": ["batch"],
        "map": ["batch", 48, 56],
    }


def test_the_index_lies_beside_the_graphs(toy_bundle: Path) -> None:
    bank = toy_detector().index["bank"]
    constants = onnx.load(toy_bundle / "model.onnx").graph.initializer
    assert max(int(np.prod(constant.dims)) for constant in constants) < bank.numel()
    assert (
        (toy_bundle / "openvino/model.bin").stat().st_size
        < bank.numel() * 4
        <= (toy_bundle / "index.safetensors").stat().st_size
    )


def test_the_sidecar_holds_the_size_of_the_largest_tensor_of_an_image(toy_bundle: Path) -> None:
    graph = read_sidecar(toy_bundle).graph
    cells, bank = 6 * 7, 8 * 6 * 7
    assert graph.bytes_per_image == cells * bank * 4
    assert [(tensor.name, tensor.shape) for tensor in graph.index] == [("bank", [bank, 16])]


def test_no_file_of_a_bundle_names_a_path_of_the_exporting_machine(toy_bundle: Path) -> None:
    here = [str(Path(__file__).resolve().parents[2]).encode(), str(toy_bundle).encode(), b"site-packages", b"<frozen"]
    files = [path for path in toy_bundle.rglob("*") if path.is_file()]
    assert len(files) == 6
    for name in files:
        content = name.read_bytes()
        assert not [path for path in here if path in content], name


class Baked(ToyDetector):
    def score(self, embedding, index):
        return super().score(embedding, self.index)


class FixedBatch(ToyDetector):
    def score(self, embedding, index):
        scores = super().score(embedding, index)
        return Scores(scores.image.reshape(2), scores.map)


class Untraceable(ToyDetector):
    def score(self, embedding, index):
        scores = super().score(embedding, index)
        return scores if float(scores.image.max()) > 0 else Scores(scores.image + 1, scores.map)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Baked, "'bank' was baked into the graph"),
        (FixedBatch, "fixed batch in its output"),
        (Untraceable, "cannot be traced"),
    ],
)
def test_a_score_that_makes_no_honest_graph_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind, sentence: str
) -> None:
    with pytest.raises(RunFailed, match=sentence):
        export_graphs(toy_detector(kind), tmp_path)
    assert capfd.readouterr().out == ""


def test_a_name_inside_never_shadows_an_index_tensor(tmp_path: Path, images: np.ndarray) -> None:
    class Shadowing(ToyDetector):
        """Takes a mean, which the exporter names like the index tensor."""

        def score(self, embedding, index):
            return super().score(embedding - embedding.mean(dim=(1, 2), keepdim=True), {"bank": index["mean"]})

    plain = toy_detector()
    detector = Shadowing(None, plain.backbone, plain.input_size)
    detector.index = {"mean": plain.index["bank"]}
    export_graphs(detector, tmp_path)
    with torch.inference_mode():
        expected = detector(torch.from_numpy(images)).image
    for export_format in FORMATS:
        index = {"mean": detector.index["mean"].numpy()}
        score, _ = export_format.open(tmp_path, GEOMETRY.input_size, index, "cpu", 2)(images)
        np.testing.assert_allclose(score, expected, rtol=1e-3)
