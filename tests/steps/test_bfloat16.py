"""compute.precision=bfloat16: the index, the calibration and the bundle compute alike, and what cannot says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from every_method import BACKBONE, GEOMETRY, write_dataset
from step_calls import build_index, evaluate, export, train
from vqi.dataset.reader import Dataset
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.predictor import Prediction, Predictor
from vqi.evaluation.predictions import read_scores
from vqi.platform.devices import Compute, bfloat16_instructions

COMPUTE = Compute(device="cpu", precision="bfloat16", batch_size=4)


@pytest.mark.slow
@pytest.mark.skipif(not bfloat16_instructions(), reason="this processor has no bfloat16 instructions")
def test_a_threshold_of_bfloat16_is_used_in_bfloat16(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset, network, index = write_dataset(tmp_path), tmp_path / "network", tmp_path / "index"
    evaluation, bundle = tmp_path / "evaluation", tmp_path / "bundle"
    train(
        dataset=dataset,
        method="padim",
        settings={},
        backbone=BACKBONE,
        geometry=GEOMETRY,
        compute=COMPUTE,
        seed=0,
        network=network,
    )
    build_index(dataset=dataset, network=network, compute=COMPUTE, index=index)
    evaluate(
        dataset=dataset,
        network=network,
        index=index,
        false_reject_rate=0.1,
        compute=COMPUTE,
        tracking_uri="",
        evaluation=evaluation,
        report=tmp_path / "report.html",
    )
    export(dataset=dataset, network=network, index=index, evaluation=evaluation, tolerance=1e-3, bundle=bundle)
    sidecar = read_sidecar(bundle)
    assert {name: entry.precision for name, entry in sidecar.formats.items()} == {
        "onnx": "float32",
        "openvino": "bfloat16",
    }
    assert sidecar.calibration.precision == "bfloat16"
    shift = sidecar.calibration.precision_shift
    assert shift is not None
    data, expected = Dataset(dataset), read_scores(evaluation / "predictions.csv")
    samples = data.samples("test")

    def deviation(backend: str) -> float:
        predictions = list(Predictor(bundle, backend).predict([data.image(sample) for sample in samples]))
        assert all(isinstance(prediction, Prediction) for prediction in predictions)
        return max(
            abs(prediction.score / expected[sample.path] - 1)
            for prediction, sample in zip(predictions, samples, strict=True)
        )

    capsys.readouterr()
    assert deviation("openvino") < 1e-3 < deviation("onnxruntime") < 0.1
    said = capsys.readouterr().err
    assert said.count("the thresholds of this bundle were taken in bfloat16, and onnxruntime computes in float32") == 1
    assert "and openvino computes" not in said
