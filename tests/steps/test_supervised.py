"""A supervised method from photographs to predictions: what it learns from, its threshold, its boxes and what is said
of few defects."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eviction import evict
from step_calls import build_index, check_dataset, evaluate, export, ingest, train
from vqi.dataset.geometry import Geometry
from vqi.dataset.manifest import read_manifest
from vqi.dataset.reader import Dataset
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.predictor import Prediction, Predictor
from vqi.detectors.settings import BackboneSettings, parse_settings
from vqi.detectors.storage import read_network
from vqi.detectors.vgg_cam import VggCam
from vqi.evaluation.box_rule import Boxes
from vqi.evaluation.records import Results, read_results
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput, RunFailed
from vqi.training.folds import Photographs
from vqi.training.record import TrainingRecord, read_network_notes
from vqi.training.sample_split import split_samples
from vqi.training.settings import TrainSettings

SETTINGS = {"learning_rate": 0.02, "enough": 1.0}
GEOMETRY = Geometry(size=(48, 48))


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


def learn(dataset: Path, network: Path, budgets: TrainSettings | None = None, **settings: Any) -> TrainingRecord:
    record = train(
        dataset=dataset,
        method="vgg_cam",
        settings=parse_settings("vgg_cam", SETTINGS | settings).model_dump(),
        backbone=BackboneSettings(name="filterbank"),
        geometry=GEOMETRY,
        compute=Compute(),
        seed=0,
        network=network,
        budgets=budgets or TrainSettings(max_epochs=30),
    )
    assert record is not None
    return record


@pytest.fixture(scope="module")
def run(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the artefacts of every step, of half of the test photographs labelled to learn from."""
    out = tmp_path_factory.mktemp("run")
    dataset = brought_in(source, out, 0.5)
    learn(dataset, out / "network", folds=2)
    build_index(dataset=dataset, network=out / "network", compute=Compute(), index=out / "index")
    evaluate(
        dataset=dataset,
        network=out / "network",
        index=out / "index",
        false_reject_rate=0.2,
        compute=Compute(),
        tracking_uri="",
        evaluation=out / "evaluation",
        report=out / "report.html",
    )
    export(
        dataset=dataset,
        network=out / "network",
        index=out / "index",
        evaluation=out / "evaluation",
        tolerance=1e-3,
        bundle=out / "bundle",
    )
    return out


def results(run: Path) -> Results:
    return read_results(run / "evaluation")


def learnt(network: Path) -> TrainingRecord:
    training = read_network_notes(network).training
    assert training is not None
    return training


def test_it_learns_from_good_and_labelled_photographs_and_is_tested_on_others(run: Path) -> None:
    counts = {
        split: sum(s.split == split for s in read_manifest(run / "dataset").samples)
        for split in ("train", "labelled", "calibration", "test")
    }
    assert counts == {"train": 21, "labelled": 15, "calibration": 9, "test": 15}
    assert learnt(run / "network").learned_images == 36
    evaluation = results(run)
    assert evaluation.counts.labelled_images == 15
    assert evaluation.counts.test_images == 15
    assert any("15 of 30 labelled test photographs are learnt from" in note for note in evaluation.notes)


def test_the_defects_are_detected_at_a_threshold_from_normals_that_were_held_out(run: Path) -> None:
    evaluation = results(run)
    assert (evaluation.threshold.kind, evaluation.threshold.calibration_images) == ("split", 9)
    metrics = evaluation.metrics
    assert metrics.image_auroc > 0.9
    assert metrics.accuracy > 0.7
    assert metrics.balanced_accuracy > 0.7
    assert metrics.confusion.defects == 10
    assert 0 <= metrics.classifier_balanced_accuracy <= 1
    page = (run / "report.html").read_text()
    assert "The positive class is <em>defect</em>" in page
    assert "balanced accuracy" in page
    assert "Too few photographs labelled good are left to test on: 5" in page


def test_boxes_are_where_the_defect_is_and_on_defects_alone(run: Path) -> None:
    evaluation = results(run)
    assert evaluation.boxes == Boxes(rule="fraction", fraction=0.7)
    with open(run / "evaluation" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(bool(json.loads(row["boxes"])) <= (row["decision"] == "defect") for row in rows)
    assert any("Boxes are drawn on photographs judged defective alone" in note for note in evaluation.notes)


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


def test_the_report_and_the_results_hold_the_cross_validation(run: Path) -> None:
    evaluation = results(run)
    assert evaluation.training is not None
    assert evaluation.training.cross_validation is not None
    assert evaluation.training.cross_validation.folds == 2
    assert any("2-fold cross-validation on the 36 photographs" in note for note in evaluation.notes)
    assert "2-fold cross-validation on the 36 photographs" in (run / "report.html").read_text()


def test_folds_are_cross_validated_and_recorded(run: Path, source: Path, tmp_path: Path) -> None:
    record = learn(run / "dataset", tmp_path / "network", folds=2, learning_rate=0.02).cross_validation
    assert record is not None
    assert (record.folds, record.photographs) == (2, 36)
    assert record.confusion.defects == 10
    assert record.balanced_accuracy > 0.6
    assert learnt(tmp_path / "network").cross_validation == record
    with pytest.raises(BadInput, match="folds is 11, but there are only 10"):
        learn(run / "dataset", tmp_path / "other", folds=11)


def test_a_cross_validation_that_is_stopped_goes_on_with_the_fold_it_was_in(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    original = VggCam.loss

    def loss(self: VggCam, views: Any) -> Any:
        calls.append("step")
        if len(calls) == 8:
            evict()
        return original(self, views)

    monkeypatch.setattr(VggCam, "loss", loss)
    budgets = TrainSettings(max_epochs=3, checkpoints=str(tmp_path / "checkpoints"))
    with pytest.raises(
        RunFailed, match=r"vgg_cam, fold 2 of 2 was told to stop at step 2 of 6; its checkpoint is in .*fold-2"
    ):
        learn(run / "dataset", tmp_path / "network", budgets, folds=2)
    resumed = learn(run / "dataset", tmp_path / "network", budgets, folds=2)
    assert len(calls) == 8 + 4 + 12  # the rest of the second fold, and the network itself
    whole = learn(run / "dataset", tmp_path / "whole", TrainSettings(max_epochs=3), folds=2)
    assert resumed.cross_validation == whole.cross_validation
    assert read_network(tmp_path / "network").tensors_sha256 == read_network(tmp_path / "whole").tensors_sha256
    # One folder holds all, so that who removes a run's checkpoints removes its folds' too.
    assert [str(path) for path in (tmp_path / "checkpoints").iterdir()] == [resumed.checkpoints]


@pytest.mark.slow
def test_processes_cross_validate_together(run: Path, tmp_path: Path) -> None:
    alone = learn(run / "dataset", tmp_path / "alone", TrainSettings(max_epochs=10), folds=2)
    together = learn(run / "dataset", tmp_path / "together", TrainSettings(max_epochs=10, processes=2), folds=2)
    assert together.processes == 2
    assert together.cross_validation is not None
    assert alone.cross_validation is not None
    assert together.cross_validation.accuracy == pytest.approx(alone.cross_validation.accuracy, abs=0.1)


def test_of_photographs_with_the_same_bytes_one_is_cross_validated(run: Path) -> None:
    samples = Dataset(run / "dataset").samples("labelled")
    photographs = Photographs.of([samples[0], *samples])
    assert photographs.numbers == [0, *range(2, len(samples) + 1)]
    assert photographs.types == [sample.defect for sample in samples]
    assert photographs.labels.tolist() == [int(sample.label == "defect") for sample in samples]


def test_early_stop_uses_photographs_of_every_type(run: Path) -> None:
    split = split_samples(Dataset(run / "dataset"), "vgg_cam", TrainSettings(patience=2), None, seed=0)
    assert {sample.defect for sample in split.stopping} == {"good", "hole"}
    assert not {sample.path for sample in split.stopping} & {sample.path for sample in split.learned}
    assert len(split.stopping) + len(split.learned) == 36


def test_early_stop_ends_folds_and_network_by_the_loss_on_labelled_photographs(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_batches: list[list[int]] = []
    original = VggCam.views

    def views(self: VggCam, images: Any, labels: Any, random: Any) -> Any:
        # The loop looks at held-out images itself; other threads prepare the next batch meanwhile.
        if not self.training and threading.current_thread() is threading.main_thread():
            label_batches.append(labels.tolist())
        return original(self, images, labels, random)

    monkeypatch.setattr(VggCam, "views", views)
    learn(run / "dataset", tmp_path / "network", TrainSettings(max_epochs=2, patience=2), folds=2)
    assert len(label_batches) == 3 * 2
    assert set(label_batches[0]) == {0, 1}


def test_without_labelled_defects_it_does_not_train(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="labelled"):
        learn(brought_in(source, tmp_path, 0.0), tmp_path / "network")
    assert not (tmp_path / "network").exists()


def test_the_check_reports_where_defects_are_too_few(tmp_path: Path) -> None:
    write(tmp_path / "source", "train/good", 12, 0)
    write(tmp_path / "source", "test/good", 12, 100)
    write(tmp_path / "source", "test/hole", 4, 200, spots=True)
    dataset = brought_in(tmp_path / "source", tmp_path, 0.8)
    verdict = check_dataset(
        dataset=dataset,
        geometry=GEOMETRY,
        false_reject_rate=0.2,
        page=tmp_path / "page.html",
        verdict=tmp_path / "verdict.json",
    )
    sentence = next(finding.sentence for finding in verdict.findings if finding.code == "few-labelled")
    assert "Too few labelled defects to learn from: hole (3)" in sentence
    assert sentence.split(";")[0] in (tmp_path / "page.html").read_text()
