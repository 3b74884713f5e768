"""Evaluate a detector on the test split: thresholds from normals alone, metrics, pictures, report, and a record in
MLflow."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from vqi.batches.scoring import score_samples
from vqi.dataset.labelled import few_labelled
from vqi.dataset.reader import Dataset
from vqi.detectors.settings import settings_class
from vqi.detectors.storage import NetworkRecord, load_for_scores, read_network
from vqi.evaluation.box_rule import BoxRule
from vqi.evaluation.calibration import Calibration, read_calibration
from vqi.evaluation.collector import Collector
from vqi.evaluation.histogram import Histogram
from vqi.evaluation.predictions import predictions_csv
from vqi.evaluation.records import (
    EXAMPLES,
    PREDICTIONS,
    REPORT,
    RESULTS,
    Counts,
    Results,
    TrackedAt,
    write_examples,
    write_results,
)
from vqi.evaluation.report import write_report
from vqi.evaluation.results import (
    classifier_note,
    compute_mean_scores,
    compute_metrics,
    compute_roc,
    compute_type_metrics,
    judged,
    missing_notes,
    outlier_notes,
    table,
    trade_off,
)
from vqi.evaluation.thresholds import Threshold, calibrate
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput
from vqi.platform.files import whole_folder, write_whole
from vqi.platform.logs import logger
from vqi.steps.evaluate.learning import learning
from vqi.steps.evaluate.settings import StepSettings
from vqi.tracking.comparisons import trial_tags
from vqi.tracking.origins import origin_tags, run_title
from vqi.tracking.runs import check_tracking, code_version, shown_address, track_run, tracking_address
from vqi.training.record import NetworkNotes, notes_of

log = logger(__name__)

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "opencv-python-headless")


def evaluate(
    settings: StepSettings,
    *,
    dataset: Path,
    network: Path,
    index: Path,
    evaluation: Path,
    report: Path,
    seconds: Mapping[str, float] | None = None,
    kfp_run: str = "",
) -> Results:
    """Score the test split and write `evaluation` (results.json, predictions.csv, report.html, pictures/, maps/) and
    the page `report`, which is the one in it; returns the results.

    `tracking.comparison` (RUN/TRIAL) makes the record a trial of another MLflow run; `seconds` are what the steps
    before this one took, for the record; `kfp_run` is the KFP run that this is a step of. Images stream through: no
    photograph is kept, and of the maps 4 bytes a pixel (see PixelScores). Tracking is checked before anything is
    scored; where it breaks later, `evaluation` and `report` are complete all the same and RunFailed is raised after
    them. Raises BadInput for unusable input, RunFailed where a score is not finite.
    """
    started = time.monotonic()
    false_reject_rate, compute = settings.threshold.false_reject_rate, settings.compute
    tracking_uri, experiment = settings.tracking.uri, settings.tracking.experiment
    data, record = Dataset(dataset), read_network(network)
    notes = notes_of(record, network)
    geometry = notes.geometry
    calibration = read_calibration(index)
    box_rule = BoxRule.of_method(record.settings)
    threshold = calibrate(calibration, false_reject_rate, box_rule.marks_good)
    samples = data.samples("test")
    if not samples:
        raise BadInput(
            f"The data set {data.manifest.name!r} has an empty test split, so there is nothing to evaluate on; add "
            "test images."
        )
    check_tracking(tracking_uri, experiment)

    collector = Collector(data, samples, geometry, threshold, box_rule, settings.evaluation)
    detector = load_for_scores(network, index, compute)
    with whole_folder(evaluation) as folder:
        for sample, score, values in score_samples(detector, data, samples, geometry, compute):
            collector.add(sample, score, values, folder)
        # A bank that its time budget cut short comes first: every figure depends on it.
        results = _results(data, record, notes, calibration, threshold, collector, compute, detector.build_notes)
        write_results(folder, results)
        write_examples(folder, collector.examples)
        predictions = predictions_csv(collector.predictions, data.manifest.reference is not None)
        write_whole(folder / PREDICTIONS, predictions.encode("utf-8", "backslashreplace"))
        write_report(
            folder / REPORT,
            results,
            collector.chooser.chosen(),
            learning(network, notes.training, data, geometry),
            _decisive_photograph(results, data),
        )
    write_whole(report, (evaluation / REPORT).read_bytes())

    log.info(table(results))
    run_id = track_run(
        uri=tracking_uri,
        experiment=experiment,
        run_name=run_title(results.name, results.method, kfp_run),
        parameters=_parameters(results, compute),
        metrics={
            **results.metrics.numbers,
            "threshold_image": threshold.image,
            "threshold_pixel": threshold.pixel,
            **_cost(seconds, started),
        },
        tags={
            "vqi.category": results.name,
            "vqi.dataset_fingerprint": results.dataset_fingerprint,
            "vqi.code": results.versions["vqi"],
            "vqi.weights": results.weights.label,
            **origin_tags(kfp_run),
            **trial_tags(settings.tracking.comparison),
        },
        artifacts=[evaluation / RESULTS, evaluation / PREDICTIONS, evaluation / EXAMPLES, evaluation / REPORT],
        run_id=notes.training.run_id if notes.training else "",
    )
    if run_id:
        tracking = TrackedAt(uri=shown_address(tracking_address(tracking_uri)), experiment=experiment, run_id=run_id)
        results = results.model_copy(update={"tracking": tracking})
        write_results(evaluation, results)
    return results


def _results(
    data: Dataset,
    record: NetworkRecord,
    notes: NetworkNotes,
    calibration: Calibration,
    threshold: Threshold,
    collector: Collector,
    compute: Compute,
    build_notes: Sequence[str],
) -> Results:
    predictions, pixels = collector.predictions, collector.pixels
    supervised = settings_class(record.method).supervised
    method_notes = [classifier_note(predictions)] if supervised else []
    if supervised and notes.training and notes.training.cross_validation:
        method_notes.append(notes.training.cross_validation.sentence)
    if notes.geometry.tile and settings_class(record.method).positional:
        method_notes.append(
            f"{record.method} compares a position with the same position of normal photographs; all tiles share one "
            "model, so here it is the position in a tile. A method without positions (patchcore) loses nothing by it."
        )
    if notes.dataset_fingerprint != data.manifest.fingerprint:
        method_notes.append(
            f"The network was made from another data set ({notes.dataset_fingerprint[:12]}) than the one measured here "
            f"({data.manifest.fingerprint[:12]}): "
            "the promise about good parts holds for parts like those it was calibrated on."
        )
    return Results(
        name=data.manifest.name,
        verdict=judged(predictions, calibration, threshold),
        dataset_fingerprint=data.manifest.fingerprint,
        method=record.method,
        settings=record.settings,
        backbone=record.backbone,
        weights=record.weights,
        geometry=notes.geometry,
        seed=record.seed,
        precision=compute.precision,
        threshold=threshold,
        boxes=collector.box_rule.boxes,
        training=notes.training.summary if notes.training else None,
        metrics=compute_metrics(predictions, pixels, threshold, supervised, collector.boxes),
        per_defect=compute_type_metrics(predictions, pixels, threshold, collector.boxes),
        mean_scores=compute_mean_scores(predictions),
        counts=_counts(data, threshold, collector),
        notes=(
            *build_notes,
            *outlier_notes(calibration),
            *missing_notes(predictions, pixels, collector.boxes),
            *method_notes,
            *collector.notes(),
            *few_labelled(data.manifest),
            *data.manifest.notes,
        ),
        roc=compute_roc(predictions),
        histogram=Histogram.of([row.label for row in predictions], [row.score for row in predictions]),
        trade_off=trade_off(predictions, calibration),
        versions=_versions(),
    )


def _counts(data: Dataset, threshold: Threshold, collector: Collector) -> Counts:
    labels = Counter(row.label for row in collector.predictions)
    return Counts(
        test_images=labels.total(),
        good=labels["good"],
        defect=labels["defect"],
        unknown=labels["unknown"],
        regions=collector.pixels.regions,
        regions_not_measurable=collector.left_out["regions"],
        train_images=len(data.samples("train")),
        labelled_images=len(data.samples("labelled")),
        calibration_images=threshold.calibration_images,
        masked_defect_images=sum(s.label == "defect" and bool(s.masks) for s in data.samples("test")),
        boxes=collector.boxes.count or None,
    )


def _decisive_photograph(results: Results, data: Dataset) -> np.ndarray | None:
    """The photograph, uint8 [H, W, 3], that sets the threshold alone; None where there is none such, or not in this
    data set.
    """
    decisive = results.verdict.decisive
    if decisive is None or decisive.count > 1:
        return None
    sample = next((sample for sample in data.samples() if sample.path == decisive.photographs[0]), None)
    return None if sample is None else data.image(sample)


def _cost(seconds: Mapping[str, float] | None, started: float) -> dict[str, float]:
    """The seconds it took to come here, for the record alone: results are the same whenever they are made."""
    return {"seconds": round(sum(seconds.values()) + time.monotonic() - started, 3)} if seconds else {}


def _versions() -> dict[str, str]:
    """Of this code and of the packages that scores depend on."""
    versions = {"vqi": code_version(), "python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _parameters(results: Results, compute: Compute) -> dict[str, Any]:
    """What the run was made with, flat."""
    training = results.training
    trained = ("steps", "epochs", "batch_size", "processes", "stopped") if training else ()
    return {
        "method": results.method,
        **{f"method.{key}": value for key, value in results.settings.items()},
        "backbone.name": results.backbone.name,
        "backbone.layers": "+".join(results.backbone.layers),
        "weights": results.weights.label,
        "weights.sha256": results.weights.sha256,
        **{f"image.{key}": value for key, value in results.geometry.model_dump(mode="json").items()},
        "threshold.kind": results.threshold.kind,
        "threshold.false_reject_rate": results.threshold.requested_false_reject_rate,
        "compute.device": compute.device,
        "compute.precision": compute.precision,
        **{f"train.{key}": getattr(training, key) for key in trained},
        "seed": results.seed,
        "dataset.name": results.name,
        "dataset.fingerprint": results.dataset_fingerprint,
    }
