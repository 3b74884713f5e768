from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from example_results import confusion, example_results, metrics, threshold
from step_calls import export, ingest
from strange_formats import Register, Strange, registering
from toy_bundle import photograph
from vqi.dataset.geometry import Geometry, to_input
from vqi.dataset.reader import Dataset
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.predictor import Prediction, Predictor
from vqi.deployment.sidecar import DecodingEntry
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.detectors.storage import load_detector, read_network, save_index, save_network
from vqi.evaluation.calibration import CalibrationImage, CalibrationRecord, write_calibration
from vqi.evaluation.records import write_results
from vqi.platform.devices import PRECISIONS
from vqi.platform.errors import BadInput, GateRefused, RunFailed
from vqi.training.record import NetworkNotes

GEOMETRY = Geometry(size=(72, 80), crop=(64, 72))


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
    notes = NetworkNotes(dataset="plates", dataset_fingerprint=fingerprint, geometry=GEOMETRY, precision="float32")
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
    assert [entry.backend for entry in sidecar.formats.values()] == ["onnxruntime", "openvino"]
    for entry in sidecar.formats.values():
        assert {deviation.batch for deviation in entry.deviations} == {1, 5}
        assert 0 <= entry.largest_deviation <= 1e-3 == entry.tolerance
        assert entry.latency_ms
        assert entry.size_mib > 0
    assert sidecar.metrics == {"image_auroc": 1.0, "confusion": confusion(9, 0, 20, 1).values()}
    detector = load_detector(inputs["network"], inputs["index"])
    pixels = [photograph(33), photograph(34, defect=True), photograph(35)]
    with torch.inference_mode():
        expected = detector(torch.from_numpy(np.stack([to_input(GEOMETRY.apply(image)) for image in pixels])))
    for backend in ("openvino", "onnxruntime"):
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
    with pytest.raises(GateRefused, match="the tolerance is 1e-12; no bundle was written"):
        export(**padim, tolerance=1e-12, bundle=tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Register]:
    yield from registering(monkeypatch)


@pytest.mark.parametrize(
    ("formats", "sentence"),
    [
        ((), "export.formats is empty"),
        (("onnx", "onnx"), "names onnx more than once"),
        (("onx",), "Did you mean 'onnx'"),
        (("strange",), "cannot be written here, for lack of no_such_module, no_such.module; install that"),
    ],
)
def test_formats_that_cannot_be_written_are_refused_before_anything_is_done(
    tmp_path: Path, padim: dict[str, Path], register: Register, formats: tuple[str, ...], sentence: str
) -> None:
    register(type("Elsewhere", (Strange,), {"writes_with": ("no_such_module", "no_such.module")}))
    with pytest.raises(BadInput, match=sentence):
        export(**padim, tolerance=1e-3, bundle=tmp_path / "bundle", formats=formats)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_strangers_format_is_written_gated_and_described(
    tmp_path: Path, padim: dict[str, Path], register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    class Own(Strange):
        tolerance = 0.5
        precision = "int8"

    register(Own)
    # No deviation at all is allowed, but for a format that states its own.
    costs = export(**padim, tolerance=1e-12, bundle=tmp_path / "bundle", formats=["strange"])
    sidecar = read_sidecar(tmp_path / "bundle")
    assert list(sidecar.formats) == ["strange"]
    entry = sidecar.formats["strange"]
    assert set(entry.files) == {"strange/graph.bin", "strange/mean.txt"}
    assert (entry.tolerance, entry.precision, entry.install, entry.notes) == (
        0.5,
        "int8",
        "vqi-strange",
        {"whole": True},
    )
    assert 0 < entry.largest_deviation < 1e-3
    assert costs.latency_ms == entry.latency_ms
    # What a quantisation would be calibrated on: the training normals as the network sees them.
    data = Dataset(padim["dataset"])
    normals = [to_input(GEOMETRY.apply(data.image(sample))) for sample in data.samples("train")]
    mean = float((tmp_path / "bundle/strange/mean.txt").read_text())
    assert mean == pytest.approx(float(np.mean(normals)), abs=1e-4)
    assert "strange: largest deviation" in capsys.readouterr().err
    assert sidecar.versions["onnxruntime"]
    assert "openvino" not in sidecar.versions
    (predicted,) = Predictor(tmp_path / "bundle", "strange-runtime").predict([photograph(33)])
    assert isinstance(predicted, Prediction)


def fail(*arguments: object) -> None:
    raise ValueError("two lines\nof trouble")


def refuse(*arguments: object) -> None:
    raise BadInput("Half precision is too small for a weight.")


def write_hidden(self: Strange, source: object, folder: Path) -> dict[str, bool]:
    notes = dict(Strange.write(self, source, folder))  # type: ignore[arg-type]
    (folder / "strange/.hidden").write_text("")
    return notes  # type: ignore[return-value]


def drift(self: Strange, *arguments: object) -> object:
    infer = Strange.open(self, *arguments)  # type: ignore[arg-type]
    return lambda images: (infer(images)[0] * 1.01, infer(images)[1])


def write_beside(self: Strange, source: object, folder: Path) -> dict[str, bool]:
    (folder / "else.txt").write_text("")
    return dict(Strange.write(self, source, folder))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stated", "kind", "sentence"),
    [
        ({"write": fail}, RunFailed, r"The export format strange cannot be written \(ValueError: two lines\)\.$"),
        ({"write": lambda *_: {}}, RunFailed, "The export format strange did not write its file strange/; mend"),
        ({"write": lambda *_: {"list": []}}, RunFailed, "The export format strange notes 'list' as other than"),
        ({"write": write_beside}, RunFailed, "The export format strange wrote else.txt, which is not one of its files"),
        (
            {"open": fail},
            RunFailed,
            r"The format strange of the bundle .* cannot be opened \(ValueError: two lines of t",
        ),
        ({"open": lambda *_: fail}, RunFailed, "strange-runtime failed on a batch of 1: two lines of trouble"),
        ({"open": drift}, GateRefused, "its score deviates by 0.01 on strange at batch 1, the tolerance is 0.001"),
    ],
)
def test_a_strangers_format_that_fails_is_named_and_leaves_nothing(
    tmp_path: Path, padim: dict[str, Path], register: Register, stated: dict, kind: type[Exception], sentence: str
) -> None:
    register(type("Failing", (Strange,), stated))
    with pytest.raises(kind, match=sentence) as refused:
        export(**padim, tolerance=1e-3, bundle=tmp_path / "bundle", formats=["strange"])
    assert "\n" not in str(refused.value)
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
