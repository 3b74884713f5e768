"""Aligned sets through the whole path, with region, area and tiles: every method sees parts in one place, and its
bundle says the same."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from every_method import BACKBONE, COMPUTE, budget, small
from moved_parts import part, stripe_of, write_moved_parts
from step_calls import build_index, evaluate, export, ingest, train
from vqi.dataset.geometry import Geometry
from vqi.dataset.reader import Dataset
from vqi.deployment.bundle import read_sidecar, write_sidecar
from vqi.deployment.prediction_writer import PredictionWriter
from vqi.deployment.predictor import Prediction, Predictor
from vqi.detectors.settings import SETTINGS

GEOMETRY = Geometry(region=(4, 4, 92, 68), size=(64, 96), tile=(64, 64), overlap=0.25, area="8,6 88,6 88,66 8,66")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aligned")
    source = write_moved_parts(folder / "parts")
    ingest(
        name="parts",
        source=str(source),
        layout="mvtec",
        labelled_fraction=0.4,
        seed=0,
        dataset=folder / "dataset",
        align="auto",
    )
    return folder / "dataset"


@pytest.mark.parametrize(
    "method", ["padim", *(pytest.param(name, marks=pytest.mark.slow) for name in sorted(SETTINGS) if name != "padim")]
)
def test_the_whole_path_aligned(method: str, dataset: Path, tmp_path: Path) -> None:
    network, index, evaluation, bundle = (tmp_path / name for name in ("network", "index", "evaluation", "bundle"))
    train(
        dataset=dataset,
        method=method,
        settings=small(method),
        backbone=BACKBONE,
        geometry=GEOMETRY,
        compute=COMPUTE,
        seed=0,
        network=network,
        budgets=budget(method, 2),
    )
    build_index(dataset=dataset, network=network, compute=COMPUTE, index=index)
    results = evaluate(
        dataset=dataset,
        network=network,
        index=index,
        evaluation=evaluation,
        report=tmp_path / "report.html",
        false_reject_rate=0.2,
        compute=COMPUTE,
        tracking_uri="",
    )
    assert any(note.startswith("Photographs were aligned to train/good/") for note in results.notes)
    export(
        dataset=dataset,
        network=network,
        index=index,
        evaluation=evaluation,
        bundle=bundle,
        tolerance=1e-3,
        formats=("openvino",),
    )
    data = Dataset(dataset)
    with (evaluation / "predictions.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    aligned = {sample.path: sample.alignment for sample in data.samples("test")}
    assert {path: row["unaligned"] for path, row in rows.items()} == {p: a and a.reason for p, a in aligned.items()}
    predictor = Predictor(bundle, implausible="score")
    samples = data.samples("test")
    for sample, prediction in zip(samples, predictor.predict(data.image(s) for s in samples), strict=True):
        assert isinstance(prediction, Prediction)
        score = float(rows[sample.path]["score"])
        assert prediction.score == pytest.approx(score, rel=2e-3, abs=2e-3 * abs(score))
        assert prediction.map.shape == (72, 96)
        assert not prediction.unaligned
    reference = predictor.sidecar.reference
    assert reference is not None
    assert data.manifest.reference is not None
    assert asdict(reference) == asdict(data.manifest.reference)
    if method == "padim":
        assert results.metrics.pixel_auroc is not None
        _check_places(predictor, tmp_path)


def _check_places(predictor: Predictor, folder: Path) -> None:
    """The map is highest where the defect lies in the photograph as it came, and the blank edge is turned with it; what
    cannot be aligned says so."""
    place = (9.0, 7.0, -5.0)
    prediction = predictor.predict_one(part(*place, seed=9, stripe=True))
    assert isinstance(prediction, Prediction)
    mask, values = stripe_of(*place), prediction.map
    assert np.nanmean(values[mask]) > np.nanpercentile(values, 90)
    assert np.isnan(values).any(axis=0).all()
    noise = np.random.default_rng(0).integers(0, 256, (72, 96, 3), dtype=np.uint8)
    unaligned = predictor.predict_one(("noise", noise))
    assert isinstance(unaligned, Prediction)
    assert unaligned.unaligned.startswith("noise could not be aligned, and was used as it is: it resembles")
    writer = PredictionWriter(folder, predictor.sidecar, "openvino", pictures=False)
    assert writer.add(unaligned).unaligned == unaligned.unaligned
    assert "unaligned" not in writer.add(prediction).values()
    writer.finish()
    with (folder / "predictions.csv").open(newline="") as file:
        assert [row["unaligned"] for row in csv.DictReader(file)] == [unaligned.unaligned, ""]


def test_a_bundle_that_aligns_nothing_is_written_as_before(toy_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(toy_bundle, tmp_path / "bundle")
    text = (bundle / "bundle.json").read_text()
    assert "alignment" not in json.loads(text)["preprocessing"]
    sidecar = read_sidecar(bundle)
    assert sidecar.reference is None
    write_sidecar(bundle, sidecar)
    assert (bundle / "bundle.json").read_text() == text
