from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from example_results import confusion, example_results, metrics, threshold
from toy_bundle import photograph
from vqi.dataset.geometry import Geometry, to_input
from vqi.dataset.reader import Dataset
from vqi.deployment.bundle import DecodingEntry, read_sidecar
from vqi.deployment.graph_runtime import BACKENDS
from vqi.deployment.predictor import Prediction, Predictor
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.detectors.storage import load_detector, read_network, save_index, save_network
from vqi.evaluation.calibration import CalibrationImage, CalibrationRecord, write_calibration
from vqi.evaluation.records import write_results
from vqi.platform.devices import PRECISIONS
from vqi.platform.errors import BadInput, GateRefused
from vqi.steps.export.step import export
from vqi.steps.ingest.step import ingest
from vqi.training.record import NetworkNotes

GEOMETRY = Geometry((72, 80), (64, 72))


class Normals:
    """The training images as batches of two."""

    def __init__(self, dataset: Dataset) -> None:
        self.images = [to_input(GEOMETRY.apply(dataset.image(sample))) for sample in dataset.samples("train")]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self):
        return (torch.from_numpy(np.stack(self.images[start : start + 2])) for start in range(0, len(self.images), 2))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten normals and four images to test, two of them defects, through ingest."""
    source = tmp_path_factory.mktemp("plates")
    for kind, numbers in (("train/good", range(10)), ("test/good", range(20, 22)), ("test/spot", range(30, 32))):
        (source / kind).mkdir(parents=True)
        for number in numbers:
            Image.fromarray(photograph(number, kind == "test/spot")).save(source / kind / f"{number}.png")
    folder = tmp_path_factory.mktemp("dataset") / "dataset"
    ingest(
        name="plates",
        source=str(source),
        layout="mvtec",
        mask_suffix="",
        calibration_fraction=0.0,
        seed=0,
        dataset=folder,
    )
    return folder


def artefacts(folder: Path, dataset: Path, method: str, backbone: BackboneSettings) -> dict[str, Path]:
    """What train, build_index and evaluate leave for export."""
    data = Dataset(dataset)
    detector = create(method, {}, backbone, GEOMETRY.input_size, 0)
    detector.build_index(Normals(data))
    for name in ("network", "index", "evaluation"):
        (folder / name).mkdir()
    fingerprint = data.manifest.fingerprint
    notes = NetworkNotes(
        dataset="plates", dataset_fingerprint=fingerprint, geometry=GEOMETRY.entry, precision="float32"
    )
    save_network(detector, folder / "network", notes.values())
    save_index(detector, folder / "index", folder / "network")
    images = torch.from_numpy(
        np.stack([to_input(GEOMETRY.apply(data.image(sample))) for sample in data.samples("test")])
    )
    with torch.inference_mode():
        scores = detector(images).image
    images_scored = tuple(
        CalibrationImage(path=f"{number}.png", score=1.0 + number, map_max=2.0 + number, map_median=0.5)
        for number in range(10)
    )
    write_calibration(folder / "index", CalibrationRecord(kind="cross", folds=5, parts=10, images=images_scored))
    record = read_network(folder / "network")
    results = example_results(
        name="plates",
        dataset_fingerprint=fingerprint,
        method=record.method,
        settings=record.settings,
        backbone=record.backbone,
        weights=record.weights,
        seed=record.seed,
        threshold=threshold(
            image=float(scores.mean()),
            pixel=float(scores.mean()),
            false_reject_rate=0.1,
            calibration_images=10,
            guarantee="At most 1 of 10 normals is rejected.",
        ),
        metrics=metrics(image_auroc=1.0, pixel_auroc=None, aupro=None, pixel_dice=None),
    )
    write_results(folder / "evaluation", results)
    return {
        "dataset": dataset,
        "network": folder / "network",
        "index": folder / "index",
        "evaluation": folder / "evaluation",
    }


@pytest.fixture(scope="module")
def padim(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> dict[str, Path]:
    return artefacts(tmp_path_factory.mktemp("padim"), dataset, "padim", BackboneSettings(name="filterbank"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "backbone"), [("patchcore", "resnet18"), ("padim", "filterbank"), ("dfm", "filterbank")]
)
def test_every_method_exports_and_predicts_as_the_detector_does(
    tmp_path: Path, dataset: Path, method: str, backbone: str
) -> None:
    inputs = artefacts(tmp_path, dataset, method, BackboneSettings(name=backbone, weights="random"))
    bundle = tmp_path / "bundle"
    costs = export(**inputs, tolerance=1e-3, bundle=bundle)
    assert costs.latency_ms > 0
    assert costs.bundle_mib == pytest.approx(
        sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) / 2**20, abs=1e-3
    )
    sidecar = read_sidecar(bundle)
    assert {measured["backend"] for measured in sidecar.parity["measured"]} == {"onnxruntime", "openvino"}
    assert {measured["batch"] for measured in sidecar.parity["measured"]} == {1, 5}
    assert sidecar.metrics == {"image_auroc": 1.0, "confusion": confusion(9, 0, 20, 1).values()}
    detector = load_detector(inputs["network"], inputs["index"])
    pixels = [photograph(33), photograph(34, defect=True), photograph(35)]
    with torch.inference_mode():
        expected = detector(torch.from_numpy(np.stack([to_input(GEOMETRY.apply(image)) for image in pixels])))
    for backend in BACKENDS:
        for image, score, values in zip(
            Predictor(bundle, backend).predict(pixels), expected.image, expected.map, strict=True
        ):
            assert isinstance(image, Prediction)
            assert image.score == pytest.approx(float(score), rel=2e-3)
            np.testing.assert_allclose(
                image.map, GEOMETRY.invert_map(values.numpy(), (80, 96)), rtol=2e-3, atol=1e-3 * float(values.max())
            )


@pytest.mark.slow
def test_a_bundle_carries_what_predictions_are_judged_by(padim: dict[str, Path], tmp_path: Path) -> None:
    export(**padim, tolerance=1e-3, bundle=tmp_path / "bundle")
    sidecar = read_sidecar(tmp_path / "bundle")
    assert sidecar.decoding == DecodingEntry(**asdict(Dataset(padim["dataset"]).manifest.decoding))
    assert [entry.score for entry in sidecar.calibration.scores] == [1.0 + number for number in range(10)]
    assert sidecar.calibration.evidence.map_maxima[:2] == (2.0, 3.0)
    plausibility = sidecar.plausibility
    assert (plausibility.images, plausibility.normals, plausibility.false_alarm_rate) == (10, 10, pytest.approx(1 / 11))
    assert plausibility.ranges["aspect"].lowest == plausibility.ranges["aspect"].highest == 96 / 80
    black, good, defect = Predictor(tmp_path / "bundle").predict(
        [np.zeros((80, 96), np.uint8), photograph(33), photograph(34, defect=True)]
    )
    assert isinstance(black, Prediction)
    assert (black.decision, good.implausible, defect.implausible) == ("implausible", "", "")  # type: ignore[union-attr]


def test_an_evaluation_with_another_calibration_is_refused(padim: dict[str, Path], tmp_path: Path) -> None:
    results = json.loads((padim["evaluation"] / "results.json").read_text())
    results["threshold"]["calibration_images"] = 12
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(BadInput, match="made with another calibration"):
        export(**{**padim, "evaluation": tmp_path}, tolerance=1e-3, bundle=tmp_path / "bundle")


def test_the_gate_refuses_and_leaves_nothing(tmp_path: Path, padim: dict[str, Path]) -> None:
    with pytest.raises(GateRefused, match="the tolerance is 0; no bundle was written"):
        export(**padim, tolerance=0.0, bundle=tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("part", "value", "sentence"),
    [
        ("dataset_fingerprint", "f" * 64, "made with another Dataset"),
        ("seed", 7, "of another detector .*its seed differs"),
    ],
)
def test_an_evaluation_of_something_else_is_refused(
    tmp_path: Path, padim: dict[str, Path], part: str, value: object, sentence: str
) -> None:
    results = json.loads((padim["evaluation"] / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps({**results, part: value}))
    with pytest.raises(BadInput, match=sentence):
        export(**{**padim, "evaluation": tmp_path}, tolerance=1e-3, bundle=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": "vqi-results/9"}'])
def test_results_that_are_none_are_refused(tmp_path: Path, padim: dict[str, Path], content: str | None) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(BadInput, match=r"results\.json"):
        export(**{**padim, "evaluation": tmp_path}, tolerance=1e-3, bundle=tmp_path / "bundle")


@pytest.mark.slow
@pytest.mark.parametrize("precision", [precision for precision in PRECISIONS if precision != "float32"])
def test_thresholds_taken_in_another_precision_are_measured_against_the_bundle(
    padim: dict[str, Path], tmp_path: Path, precision: str
) -> None:
    results = json.loads((padim["evaluation"] / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps({**results, "precision": precision}))
    export(**{**padim, "evaluation": tmp_path}, tolerance=1e-3, bundle=tmp_path / "bundle")
    calibration = read_sidecar(tmp_path / "bundle").calibration
    assert calibration.precision == precision
    assert calibration.precision_shift is not None
    assert 0 < calibration.precision_shift < 0.2
