"""Every method there is, through the steps of the DAG: train, index, save, load, score, export, parity."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from every_method import BACKBONE, COMPUTE, GEOMETRY, budget, small, write_dataset
from native_program import built, check_native
from step_calls import build_index, evaluate, export, train
from vqi.batches.tensors import TensorBatches
from vqi.dataset.reader import Dataset
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.predictor import Predictor
from vqi.detectors.settings import method_names, settings_class
from vqi.detectors.storage import load_detector
from vqi.evaluation.results import Results
from vqi.training.record import TrainingRecord, read_network_notes


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("every"))


@dataclass(frozen=True)
class Trained:
    """A method through the whole DAG: what its steps answered, and where they wrote."""

    method: str
    record: TrainingRecord | None
    results: Results
    folder: Path

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"


@pytest.fixture(scope="module", params=method_names())
def trained(request: pytest.FixtureRequest, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    method, folder = request.param, tmp_path_factory.mktemp(request.param)
    network, index, evaluation, bundle = (folder / name for name in ("network", "index", "evaluation", "bundle"))
    record = train(
        dataset=dataset,
        method=method,
        settings=small(method),
        backbone=BACKBONE,
        geometry=GEOMETRY,
        compute=COMPUTE,
        seed=0,
        network=network,
        budgets=budget(method, 4),
    )
    build_index(dataset=dataset, network=network, compute=COMPUTE, index=index)
    results = evaluate(
        dataset=dataset,
        network=network,
        index=index,
        false_reject_rate=0.1,
        compute=COMPUTE,
        tracking_uri="",
        experiment="vqi",
        evaluation=evaluation,
        report=folder / "report.html",
    )
    export(dataset=dataset, network=network, index=index, evaluation=evaluation, tolerance=1e-3, bundle=bundle)
    return Trained(method, record, results, folder)


@pytest.mark.slow
def test_the_whole_path(trained: Trained, dataset: Path) -> None:
    method, network, index = trained.method, trained.folder / "network", trained.folder / "index"
    learns = settings_class(method).budget is not None
    assert (trained.record is not None and trained.record.steps == 4) == learns
    calibration = json.loads((index / "calibration.json").read_text())
    held_out = read_network_notes(network).held_out
    assert calibration["kind"] == ("split" if learns else "cross")
    assert sorted(image["path"] for image in calibration["images"]) == sorted(held_out) or not learns

    # Loaded twice, in batches and alone: the same scores.
    data = Dataset(dataset)
    samples = data.samples("test")
    images = next(iter(TensorBatches(data, samples, GEOMETRY, len(samples))))
    first, again = load_detector(network, index), load_detector(network, index)
    with torch.inference_mode():
        together, repeated = first(images), again(images)
        alone = [first(image[None]) for image in images]
    assert torch.equal(together.image, repeated.image)
    assert torch.equal(together.map, repeated.map)
    assert together.map.shape == (len(samples), 64, 64)
    assert together.map.dtype == together.image.dtype == torch.float32
    size = float(together.map.abs().max())
    torch.testing.assert_close(torch.cat([one.map for one in alone]), together.map, rtol=1e-4, atol=1e-4 * size)
    torch.testing.assert_close(
        torch.cat([one.image for one in alone]),
        together.image,
        rtol=1e-4,
        atol=1e-5 * float(together.image.abs().max()),
    )
    assert len(set(together.image.tolist())) == len(samples), "two images with the same score: it saturates"

    assert 0 <= trained.results.metrics.image_auroc <= 1
    assert ("How it learnt" in (trained.folder / "report.html").read_text()) == learns

    # The export's own gate compares scores and maps with the detector's; here once more, image by image.
    assert read_sidecar(trained.bundle).method == method
    predictor = Predictor(trained.bundle, backend="onnxruntime")
    scores = [prediction.score for prediction in predictor.predict([data.image(sample) for sample in samples])]
    np.testing.assert_allclose(scores, together.image.numpy(), rtol=1e-3, atol=1e-3 * float(together.image.abs().max()))


@pytest.mark.slow
def test_the_native_program_says_the_same(trained: Trained, dataset: Path) -> None:
    built()
    check_native(trained.bundle, sorted((dataset.parent / "parts" / "test").rglob("*.png")))
