from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
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
from vqi.deployment.exports.mlflow import MlflowModel
from vqi.deployment.exports.openvino_int8 import OpenVinoInt8
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
    assert "<td>openvino</td>" in (bundle / "bundle.html").read_text()
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
def test_a_bundle_for_mlflow_is_gated_and_described(
    tmp_path: Path, padim: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    export(**padim, tolerance=1e-3, bundle=tmp_path / "bundle", formats=["mlflow", "onnx"])
    sidecar = read_sidecar(tmp_path / "bundle")
    assert list(sidecar.formats) == ["onnx", "mlflow"]
    entry = sidecar.formats["mlflow"]
    assert {"MLmodel", "mlflow_bundle.py", "mlflow/input_example.json"} < set(entry.files)
    assert [(deviation.score, deviation.map, deviation.flipped) for deviation in entry.deviations] == [(0, 0, 0)] * 2
    assert (entry.notes["runs"], entry.precision) == ("onnxruntime", "float32")
    assert entry.latency_ms > 0
    load = MlflowModel.load
    monkeypatch.setattr(
        MlflowModel,
        "load",
        lambda self, folder: lambda files: [replace(one, score=2 * one.score) for one in load(self, folder)(files)],
    )
    with pytest.raises(GateRefused, match="its score deviates by 1 on mlflow at batch 1"):
        export(**padim, tolerance=1e-3, bundle=tmp_path / "other", formats=["mlflow", "onnx"])
    assert not (tmp_path / "other").exists()


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


@pytest.fixture
def rough_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random filters and ten normals: what PaDiM makes of their rounding is not a figure of real photographs."""
    pytest.importorskip("nncf")
    monkeypatch.setattr(OpenVinoInt8, "tolerance", 1.0)


@pytest.mark.slow
@pytest.mark.usefixtures("rough_int8")
def test_a_format_in_eight_bits_is_judged_by_the_test_split(
    tmp_path: Path, padim: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    export(**padim, tolerance=1e-3, bundle=bundle, formats=["onnx", "openvino-int8"], int8_max_drop=1.0)
    sidecar = read_sidecar(bundle)
    entry = sidecar.formats["openvino-int8"]
    assert entry.accuracy is not None
    assert (entry.accuracy.images, entry.accuracy.image_auroc) == (4, 1.0)
    assert entry.own is None  # normals were left out of indices that are not in the bundle
    assert "the detector's" in str(entry.notes["thresholds"])
    assert Predictor(bundle).graph.backend == "onnxruntime"
    assert Predictor(bundle, "openvino-int8").sidecar.thresholds == sidecar.thresholds
    printed = capsys.readouterr().err
    assert "on the test split: image AUROC 1.0000" in printed
    assert "what they promise is not known to hold for openvino-int8" in printed


@pytest.mark.slow
@pytest.mark.usefixtures("rough_int8")
def test_it_has_thresholds_of_its_own_where_normals_are_held_out(tmp_path: Path, padim: dict[str, Path]) -> None:
    paths = [sample.path for sample in Dataset(padim["dataset"]).samples("train")]
    rows = tuple(CalibrationImage(path=path, score=1.0, map_max=2.0, map_median=0.5) for path in paths)
    index = Path(shutil.copytree(padim["index"], tmp_path / "index"))
    write_calibration(index, CalibrationRecord(kind="split", folds=None, parts=10, images=rows))
    formats, bundle = ["openvino", "openvino-int8"], tmp_path / "bundle"
    export(**{**padim, "index": index}, tolerance=1e-3, bundle=bundle, formats=formats, int8_max_drop=1.0)
    sidecar = read_sidecar(bundle)
    own = sidecar.formats["openvino-int8"].own
    assert own is not None
    predictor = Predictor(bundle, "openvino-int8")
    scores = [result.score for result in predictor.predict([photograph(number) for number in range(10)])]  # type: ignore[union-attr]
    assert sorted(row.score for row in own.scores) == pytest.approx(sorted(scores), rel=1e-5)
    assert predictor.sidecar.thresholds == own.thresholds
    assert own.thresholds.image == pytest.approx(max(scores), rel=1e-5)
    assert predictor.sidecar.calibration.scores == own.scores
    assert Predictor(bundle).sidecar.thresholds == sidecar.thresholds != own.thresholds


@pytest.mark.slow
@pytest.mark.usefixtures("rough_int8")
def test_a_format_that_falls_by_too_much_is_left_out_with_its_figures(
    tmp_path: Path, padim: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    results = json.loads((padim["evaluation"] / "results.json").read_text())
    results["threshold"]["image"] = 1e9  # at which it decides half of the test split rightly
    results["metrics"]["accuracy"] = 1.0
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    (evaluation / "results.json").write_text(json.dumps(results))
    bundle, inputs = tmp_path / "bundle", {**padim, "evaluation": evaluation}
    export(**inputs, tolerance=1e-3, bundle=bundle, formats=["onnx", "openvino-int8"])
    sidecar = read_sidecar(bundle)
    assert list(sidecar.formats) == ["onnx"]
    assert not (bundle / "openvino-int8").exists()
    left_out = sidecar.left_out["openvino-int8"]
    assert left_out.reason.startswith("accuracy falls from 1.0000 to 0.5000 on the test split")
    assert left_out.accuracy is not None
    assert left_out.size_mib > 0
    assert left_out.latency_ms
    assert "goes without openvino-int8: accuracy falls" in capsys.readouterr().err
    with pytest.raises(GateRefused, match=r"No format of export\.formats may be in the bundle"):
        export(**inputs, tolerance=1e-3, bundle=tmp_path / "alone", formats=["openvino-int8"])
    assert not (tmp_path / "alone").exists()


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
