"""A supervised method from photographs to predictions: what it learns from, its threshold, its boxes and what is said of few defects."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vqi.dataset.geometry import Geometry
from vqi.dataset.manifest import read_manifest
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.predictor import Prediction, Predictor
from vqi.detectors.settings import BackboneSettings, parse_settings
from vqi.detectors.storage import read_network_notes
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput
from vqi.steps.build_index.step import build_index
from vqi.steps.check_dataset.step import check_dataset
from vqi.steps.evaluate.step import evaluate
from vqi.steps.export.step import export
from vqi.steps.ingest.step import ingest
from vqi.steps.train.step import train
from vqi.training.settings import TrainSettings

SETTINGS = {"learning_rate": 0.02, "enough": 1.0}
GEOMETRY = Geometry((48, 48))


def plate(seed: int, spot: tuple[int, int] | None = None) -> np.ndarray:
    """A grey texture, uint8 [96, 96, 3]; with `spot` (x, y) a black square of 20 pixels."""
    pixels = np.random.default_rng(seed).normal(130, 12, (96, 96, 3)).clip(0, 255).astype(np.uint8)
    if spot:
        pixels[spot[1] : spot[1] + 20, spot[0] : spot[0] + 20] = 0
    return pixels


def write(folder: Path, split: str, count: int, first: int, spots: bool = False) -> None:
    random = np.random.default_rng(first)
    (folder / split).mkdir(parents=True)
    for number in range(count):
        x, y = (int(v) for v in random.integers(8, 68, 2))
        Image.fromarray(plate(first + number, (x, y) if spots else None)).save(folder / split / f"{number:03}.png")
        if spots:
            mask = np.zeros((96, 96), np.uint8)
            mask[y : y + 20, x : x + 20] = 255
            path = folder / split.replace("test", "ground_truth") / f"{number:03}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plates") / "source"
    write(folder, "train/good", 30, 0)
    write(folder, "test/good", 10, 100)
    write(folder, "test/hole", 20, 200, spots=True)
    return folder


def brought_in(source: Path, folder: Path, labelled_fraction: float) -> Path:
    ingest(
        name="plates",
        source=str(source),
        layout="mvtec",
        mask_suffix="_mask",
        calibration_fraction=0.3,
        labelled_fraction=labelled_fraction,
        seed=0,
        dataset=folder / "dataset",
    )
    return folder / "dataset"


def learn(dataset: Path, network: Path, **settings: Any) -> dict[str, Any]:
    return train(
        dataset=dataset,
        method="vgg_cam",
        settings=vars(parse_settings("vgg_cam", SETTINGS | settings)),
        backbone=BackboneSettings(name="filterbank"),
        geometry=GEOMETRY,
        compute=Compute(),
        seed=0,
        network=network,
        budgets=TrainSettings(max_epochs=30),
    )


@pytest.fixture(scope="module")
def run(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the artefacts of every step, of half of the test photographs labelled to learn from."""
    out = tmp_path_factory.mktemp("run")
    dataset = brought_in(source, out, 0.5)
    learn(dataset, out / "network")
    build_index(dataset=dataset, network=out / "network", compute=Compute(), index=out / "index")
    evaluate(
        dataset=dataset,
        network=out / "network",
        index=out / "index",
        false_reject_rate=0.2,
        compute=Compute(),
        tracking_uri="",
        experiment="",
        evaluation=out / "evaluation",
        report=out / "report.html",
    )
    export(dataset=dataset, network=out / "network", index=out / "index", evaluation=out / "evaluation", tolerance=1e-3, bundle=out / "bundle")
    return out


def results(run: Path) -> dict[str, Any]:
    return json.loads((run / "evaluation" / "results.json").read_text())


def test_it_learns_from_good_and_labelled_photographs_and_is_tested_on_others(run: Path) -> None:
    counts = {split: sum(s.split == split for s in read_manifest(run / "dataset").samples) for split in ("train", "labelled", "calibration", "test")}
    assert counts == {"train": 21, "labelled": 15, "calibration": 9, "test": 15}
    assert read_network_notes(run / "network")["notes"]["training"]["learned_images"] == 36
    found = results(run)
    assert found["counts"]["labelled_images"] == 15
    assert found["counts"]["test_images"] == 15
    assert any("15 of 30 labelled test photographs are learnt from" in note for note in found["notes"])


def test_the_defects_are_found_at_a_threshold_from_normals_that_were_held_out(run: Path) -> None:
    found = results(run)
    assert (found["threshold"]["kind"], found["threshold"]["calibration_images"]) == ("split", 9)
    metrics = found["metrics"]
    assert metrics["image_auroc"] > 0.9
    assert metrics["accuracy"] > 0.7
    assert metrics["balanced_accuracy"] > 0.7
    assert metrics["confusion"]["true_positive"] + metrics["confusion"]["false_negative"] == 10
    assert 0 <= metrics["classifier_balanced_accuracy"] <= 1
    page = (run / "report.html").read_text()
    assert "The positive class is <em>defect</em>" in page
    assert "balanced accuracy" in page
    assert "Too few photographs labelled good are left to test on: 5" in page


def test_boxes_are_where_the_defect_is_and_on_defects_alone(run: Path) -> None:
    found = results(run)
    assert found["boxes"] == {"rule": "fraction", "fraction": 0.7}
    with open(run / "evaluation" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(bool(json.loads(row["boxes"])) <= (row["decision"] == "defect") for row in rows)
    assert any("Boxes are drawn on photographs judged defective alone" in note for note in found["notes"])


def test_the_bundle_predicts_the_same_boxes(run: Path, source: Path) -> None:
    assert read_sidecar(run / "bundle").boxes.model_dump() == {"rule": "fraction", "fraction": 0.7}
    (whole, holed) = Predictor(run / "bundle", "onnxruntime").predict([plate(900), plate(901, (30, 50))])
    assert isinstance(whole, Prediction)
    assert isinstance(holed, Prediction)
    assert holed.decision == "defect"
    assert whole.score < holed.score
    x1, y1, x2, y2, _ = holed.boxes[0]
    assert x1 < 50
    assert x2 > 30
    assert y1 < 70
    assert y2 > 50
    assert whole.boxes == [] or whole.decision == "defect"


def test_without_labelled_defects_it_does_not_train(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="labelled"):
        learn(brought_in(source, tmp_path, 0.0), tmp_path / "network")
    assert not (tmp_path / "network").exists()


def test_the_check_says_where_defects_are_too_few(tmp_path: Path) -> None:
    write(tmp_path / "source", "train/good", 12, 0)
    write(tmp_path / "source", "test/good", 12, 100)
    write(tmp_path / "source", "test/hole", 4, 200, spots=True)
    dataset = brought_in(tmp_path / "source", tmp_path, 0.8)
    verdict = check_dataset(dataset=dataset, geometry=GEOMETRY, false_reject_rate=0.2, page=tmp_path / "page.html", verdict=tmp_path / "verdict.json")
    sentence = next(finding.sentence for finding in verdict.findings if finding.code == "few-labelled")
    assert "Too few labelled defects to learn from: hole (3)" in sentence
    assert sentence.split(";")[0] in (tmp_path / "page.html").read_text()
