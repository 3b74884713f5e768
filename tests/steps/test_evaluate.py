"""evaluate, run whole on small made-up photographs with the filter bank: what it writes, and what it refuses."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from step_calls import build_index, evaluate, ingest, train
from vqi.dataset.geometry import Geometry
from vqi.dataset.manifest import Sample, read_manifest
from vqi.dataset.reader import Dataset
from vqi.detectors.settings import BackboneSettings
from vqi.evaluation import collector
from vqi.evaluation.box_rule import BoxRule
from vqi.evaluation.predictions import Prediction, predictions_csv
from vqi.evaluation.records import Results, TrackedAt, read_results
from vqi.evaluation.report import with_formats
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput, RunFailed
from vqi.steps.evaluate import step

HEIGHT, WIDTH = 80, 100
HOSTILE = "=1+cmd|'<b>'"


def photograph(path: Path, seed: int, spot: tuple[int, int] | None = None, mask: Path | None = None) -> None:
    """A grey texture; with `spot` (x, y) a black square of 14 pixels, drawn into `mask` too."""
    random = np.random.default_rng(seed)
    pixels = random.normal(130, 8, (HEIGHT, WIDTH, 3)).clip(0, 255).astype(np.uint8)
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    if spot:
        x, y = spot
        pixels[y : y + 14, x : x + 14] = 0
        truth[y : y + 14, x : x + 14] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    if mask:
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(truth).save(mask)


def normals(folder: Path, train_images: int = 12) -> None:
    for number in range(train_images):
        photograph(folder / "train" / "good" / f"{number:03}.png", number)
    for number in range(4):
        photograph(folder / "test" / "good" / f"{number:03}.png", 100 + number)


def built(folder: Path, source: Path, geometry: Geometry) -> dict[str, Path]:
    """ingest, train and build_index of `source` in `folder`."""
    paths = {name: folder / name for name in ("dataset", "network", "index")}
    compute = Compute()
    ingest(
        name="plates",
        source=str(source),
        layout="mvtec",
        mask_suffix="_mask",
        calibration_fraction=0.0,
        seed=0,
        dataset=paths["dataset"],
    )
    backbone = BackboneSettings(name="filterbank")
    train(
        dataset=paths["dataset"], method="padim", settings={"channels": 20}, backbone=backbone, geometry=geometry,
        compute=compute, seed=0, network=paths["network"],
    )  # fmt: skip
    build_index(dataset=paths["dataset"], network=paths["network"], compute=compute, index=paths["index"])
    return paths


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("plates")
    source = folder / "source"
    normals(source)
    for number in range(3):
        photograph(
            source / "test" / "hole" / f"{number:03}.png",
            200 + number,
            (20 + 20 * number, 30),
            source / f"ground_truth/hole/{number:03}_mask.png",
        )
    photograph(source / "test" / "hole" / "unmasked.png", 210, (60, 40))
    # At the left edge: outside the centre crop in part.
    photograph(
        source / "test" / "edge" / f"{HOSTILE}.png", 220, (0, 30), source / f"ground_truth/edge/{HOSTILE}_mask.png"
    )
    photograph(source / "test" / "unknown" / "what.png", 230, (50, 30))
    return built(folder, source, Geometry(size=(64, 80), crop=(64, 64)))


@pytest.fixture(autouse=True)
def untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def run(paths: dict[str, Path], out: Path, **changes: Any) -> Results:
    values: dict[str, Any] = {
        **paths, "false_reject_rate": 0.1, "compute": Compute(), "tracking_uri": "", "experiment": "plates",
        "evaluation": out / "evaluation", "report": out / "report.html",
    }  # fmt: skip
    return evaluate(**values | changes)


@pytest.fixture(scope="module")
def evaluated(plates: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    out = tmp_path_factory.mktemp("evaluated")
    return run(plates, out), out


def test_the_results_hold_what_was_measured(evaluated: tuple[Results, Path]) -> None:
    results, out = evaluated
    assert read_results(out / "evaluation") == results
    page = (out / "report.html").read_text()
    assert page == (out / "evaluation" / "report.html").read_text()
    assert "Not measured yet" in page
    measured = with_formats(page, "<p>measured</p>")
    assert "Not measured yet" not in measured
    assert measured.index("Export formats") < measured.index("<p>measured</p>") < measured.index("Use it")
    assert json.loads((out / "evaluation" / "results.json").read_text())["format"] == "vqi-results/1"
    assert results.backbone.name == "filterbank"
    metrics = results.metrics
    assert metrics.image_auroc == 1.0
    assert metrics.pixel_auroc > 0.8
    assert 0 < metrics.aupro_05 <= metrics.aupro <= 1
    counts = results.counts
    assert (counts.good, counts.defect, counts.unknown, counts.test_images, counts.masked_defect_images) == (
        4,
        5,
        1,
        10,
        4,
    )
    assert results.per_defect["hole"].images == 4
    assert results.per_defect["edge"].aupro is not None
    assert metrics.confusion.total == 9
    assert results.threshold.kind == "cross"
    assert results.threshold.calibration_images == 12
    assert 2 <= len(results.roc) <= 200
    assert results.precision == "float32"
    # Twelve normals can promise 1/13 and more; at the smallest rate the decisions are the run's own.
    assert [row.rate for row in results.trade_off] == [1 / 13, 0.1, 0.2]
    assert results.trade_off[0].threshold == results.threshold.image
    assert results.trade_off[0].confusion == metrics.confusion


def test_what_was_left_out_is_reported(evaluated: tuple[Results, Path]) -> None:
    notes = " ".join(evaluated[0].notes)
    assert "1 defective test image(s) without a mask are left out of the pixel metrics" in notes
    # 64 of 80 columns are seen: 10 of 100 original pixels a side are not, and of the square the first 10 columns of 14
    # rows.
    assert "140 defect pixels of 1 image(s) lie outside what the network sees" in notes
    assert "1 test image(s) of unknown label are scored and listed" in notes


def test_a_region_that_no_pixel_is_left_of_is_not_measurable(
    plates: dict[str, Path], evaluated: tuple[Results, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Dataset.mask

    def specked(data: Dataset, sample: Sample) -> np.ndarray | None:
        mask = drawn(data, sample)
        if mask is not None and sample.path.endswith("hole/000.png"):
            # Between two sampled columns, and 0.64 of a pixel of the network's input.
            mask[5, 12] = True
        return mask

    monkeypatch.setattr(Dataset, "mask", specked)
    results = run(plates, tmp_path)
    before = evaluated[0]
    assert (before.counts.regions, before.counts.regions_not_measurable) == (4, 0)
    assert (results.counts.regions, results.counts.regions_not_measurable) == (4, 1)
    assert any("1 of 5 defect regions is not measurable" in note for note in results.notes)
    assert not any("not measurable" in note for note in before.notes)
    assert results.metrics.aupro == before.metrics.aupro
    page = (tmp_path / "report.html").read_text()
    assert "1 of 5 defect regions is not measurable" in page
    assert "regions not measurable: 1" in page


@pytest.mark.parametrize(
    ("fraction", "sentence"),
    [(None, "1 has no map value above the pixel threshold"), (0.7, "1 photograph(s) judged defective carries no box")],
)
def test_a_defect_has_a_box_or_a_reason(
    plates: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fraction: float | None, sentence: str
) -> None:
    true_scores = step.score_samples

    def flat(*arguments: Any) -> Any:
        for sample, score, values in true_scores(*arguments):
            yield sample, score, values - values.max() - 1 if sample.path.endswith("hole/001.png") else values

    monkeypatch.setattr(step, "score_samples", flat)
    monkeypatch.setattr(step.BoxRule, "of_method", lambda _: BoxRule(fraction))
    results = run(plates, tmp_path)
    assert sum(sentence in note for note in results.notes) == 1
    with open(tmp_path / "evaluation" / "predictions.csv", newline="") as file:
        bare = [row["path"] for row in csv.DictReader(file) if row["decision"] == "defect" and row["boxes"] == "[]"]
    assert bare == ([] if fraction is None else ["test/hole/001.png"])
    # With a fraction a good part is marked never, so both thresholds together reject no more than the image threshold.
    assert (results.threshold.either_rate == results.threshold.false_reject_rate) or fraction is None


def test_the_table_lists_every_image_and_runs_no_formula(evaluated: tuple[Results, Path]) -> None:
    results, out = evaluated
    with open(out / "evaluation" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    for row in rows:
        assert row["decision"] == ("defect" if float(row["score"]) > results.threshold.image else "good")
        boxes = json.loads(row["boxes"])
        assert bool(boxes) == (row["decision"] == "defect" or float(row["map_max"]) > results.threshold.pixel)
        assert all(0 <= x1 < x2 <= WIDTH and 0 <= y1 < y2 <= HEIGHT for x1, y1, x2, y2, _ in boxes)
    assert {row["label"] for row in rows} == {"good", "defect", "unknown"}
    middle = next(row for row in rows if row["path"].endswith("hole/001.png"))
    x1, y1, x2, y2, _ = json.loads(middle["boxes"])[0]
    assert x1 < 47 < x2
    assert y1 < 37 < y2


def test_a_name_that_is_a_formula_is_made_inert() -> None:
    text = predictions_csv([Prediction(f"{HOSTILE}.png", "test", "defect", "@sum", -1.5, "good", -2.0)])
    row = next(csv.DictReader(text.splitlines()))
    assert row["path"] == f"'{HOSTILE}.png"
    assert row["defect"] == "'@sum"
    assert row["score"] == "-1.5"


def test_pictures_and_the_report_are_written_and_escaped(evaluated: tuple[Results, Path]) -> None:
    _, out = evaluated
    pictures = list((out / "evaluation" / "pictures").rglob("*.png"))
    assert len(pictures) == 10
    page = (out / "report.html").read_text()
    assert "<b>'" not in page
    assert "plates" in page


def test_the_table_is_printed_on_standard_error(
    plates: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(plates, tmp_path)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "image_auroc       1.0000" in captured.err
    assert captured.err.index("At the threshold this detector finds") < captured.err.index("image_auroc")
    assert "hole" in captured.err


def test_the_verdict_comes_first_and_shows_the_photograph_that_sets_the_threshold(
    evaluated: tuple[Results, Path],
) -> None:
    results, out = evaluated
    verdict = results.verdict
    written = list(json.loads((out / "evaluation" / "results.json").read_text()))
    assert written.index("verdict") < written.index("metrics")
    assert [row.threshold for row in verdict.choices if row.in_use] == [results.threshold.image]
    assert next(row for row in verdict.choices if row.in_use).confusion == results.metrics.confusion
    assert verdict.decisive is not None
    (path,) = verdict.decisive.photographs
    page = (out / "report.html").read_text()
    assert page.index(verdict.sentence) < page.index("image AUROC")
    assert '<img src="data:image/webp;base64,' in page[: page.index("image AUROC")]
    assert f'alt="{path}"' in page[: page.index("image AUROC")]


def test_two_evaluations_are_the_same(plates: dict[str, Path], evaluated: tuple[Results, Path], tmp_path: Path) -> None:
    assert run(plates, tmp_path, compute=Compute(batch_size=1)).metrics.confusion == evaluated[0].metrics.confusion
    again = tmp_path / "again"
    results = run(plates, again)
    # The code's version is left out: a checkout may be committed to between the two.
    assert results.model_copy(update={"versions": {}}) == evaluated[0].model_copy(update={"versions": {}})
    assert (again / "evaluation" / "predictions.csv").read_bytes() == (
        evaluated[1] / "evaluation" / "predictions.csv"
    ).read_bytes()


def test_good_images_alone_are_enough(tmp_path: Path) -> None:
    normals(tmp_path / "source", train_images=8)
    results = run(built(tmp_path, tmp_path / "source", Geometry(size=(64, 64))), tmp_path)
    metrics = results.metrics
    assert [
        getattr(metrics, name)
        for name in ("image_auroc", "balanced_accuracy", "recall", "pixel_auroc", "aupro", "pixel_dice")
    ] == [None] * 6
    assert 0 <= metrics.false_reject_rate <= 1
    assert results.roc == ()
    assert any("has no defective image" in note and "image_auroc" in note for note in results.notes)
    assert any("Pixel metrics" in note and "aupro" in note for note in results.notes)
    assert (tmp_path / "report.html").is_file()


def test_a_score_that_is_not_finite_leaves_nothing(
    plates: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_scores = step.score_samples

    def broken(*arguments: Any) -> Any:
        for sample, score, values in true_scores(*arguments):
            yield sample, math.nan if sample.path.endswith("hole/001.png") else score, values

    monkeypatch.setattr(step, "score_samples", broken)
    with pytest.raises(RunFailed, match=r"hole/001\.png is not finite"):
        run(plates, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_pictures_are_bounded(plates: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "PICTURES_RIGHT", 1)
    results = run(plates, tmp_path)
    assert len(list((tmp_path / "evaluation" / "pictures").rglob("*.png"))) < 10
    assert any("more are in predictions.csv alone" in note for note in results.notes)


def test_tracking_that_does_not_work_is_reported_before_anything_is_scored(
    plates: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(RunFailed, match=r"does not answer .*tracking\.uri"):
        run(plates, tmp_path, tracking_uri="http://127.0.0.1:9")
    assert list(tmp_path.iterdir()) == []


def test_tracking_that_breaks_later_loses_no_results(
    plates: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise RunFailed("Tracking went away.")

    monkeypatch.setattr(step, "track_run", refuse)
    with pytest.raises(RunFailed, match="went away"):
        run(plates, tmp_path)
    assert read_results(tmp_path / "evaluation").metrics.image_auroc == 1.0
    assert (tmp_path / "report.html").is_file()


def test_the_run_is_tracked_and_its_id_kept(
    plates: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked: dict[str, Any] = {}
    monkeypatch.setattr(step, "check_tracking", lambda *_: None)
    monkeypatch.setattr(step, "track_run", lambda **values: tracked.update(values) or "run-1")
    results = run(plates, tmp_path, tracking_uri="http://me:secret@tracking:5000")
    kept = read_results(tmp_path / "evaluation")
    assert kept == results
    assert kept.tracking == TrackedAt(uri="http://tracking:5000", experiment="plates", run_id="run-1")
    assert tracked["parameters"]["dataset.fingerprint"] == results.dataset_fingerprint
    assert tracked["tags"]["vqi.code"] == results.versions["vqi"]
    assert all(path.exists() for path in tracked["artifacts"])


def test_an_empty_test_split_is_refused(tmp_path: Path) -> None:
    normals(tmp_path / "source", train_images=8)
    paths = built(tmp_path, tmp_path / "source", Geometry(size=(64, 64)))
    whole = read_manifest(paths["dataset"])
    bare = replace(whole, samples=tuple(sample for sample in whole.samples if sample.split != "test"))
    (paths["dataset"] / "manifest.json").write_text(bare.to_json())
    with pytest.raises(BadInput, match="empty test split"):
        run(paths, tmp_path / "out")


def test_what_a_comparison_needs_is_kept(
    plates: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked: dict[str, Any] = {}
    monkeypatch.setattr(step, "check_tracking", lambda *_: None)
    monkeypatch.setattr(step, "track_run", lambda **values: tracked.update(values) or "run-1")
    results = run(plates, tmp_path, comparison="0a1b/03", seconds={"train": 2.5})
    assert tracked["tags"]["mlflow.parentRunId"] == "0a1b"
    assert tracked["tags"]["vqi.trial"] == "03"
    assert tracked["metrics"]["seconds"] > 2.5
    assert "seconds" not in results.values()  # they are no result: the same data gives the same results
    examples = tmp_path / "evaluation" / "examples.json"
    assert examples in tracked["artifacts"]
    shown = json.loads(examples.read_text())
    # One of each defect type, with a mask where there is one, in the order of the split.
    assert [(example["defect"], example["label"]) for example in shown] == [("edge", "defect"), ("hole", "defect")]
    assert "unmasked" not in shown[1]["path"]
    for example in shown:
        assert example["photograph"].startswith("data:image/webp;base64,")
        assert example["heatmap"] != example["photograph"]


def test_a_run_of_its_own_is_nobody_s_trial(
    plates: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked: dict[str, Any] = {}
    monkeypatch.setattr(step, "check_tracking", lambda *_: None)
    monkeypatch.setattr(step, "track_run", lambda **values: tracked.update(values) or "run-1")
    run(plates, tmp_path)
    assert not {"mlflow.parentRunId", "vqi.trial"} & set(tracked["tags"])
