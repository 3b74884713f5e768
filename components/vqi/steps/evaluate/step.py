"""Evaluate a detector on the test split: thresholds from normals alone, metrics, pictures, report, and a record in
MLflow."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from vqi.batches.scoring import score_samples
from vqi.dataset.geometry import Geometry
from vqi.dataset.labelled import few_labelled
from vqi.dataset.reader import Dataset
from vqi.detectors.compute import to_device
from vqi.detectors.settings import settings_class
from vqi.detectors.storage import load_detector, read_network_notes
from vqi.evaluation.box_rule import BoxRule
from vqi.evaluation.predictions import predictions_csv
from vqi.evaluation.report import write_report
from vqi.evaluation.results import (
    EXAMPLES,
    FORMAT,
    PICTURES,
    PREDICTIONS,
    RESULTS,
    classified,
    compute_metrics,
    judged,
    outlier_notes,
    table,
    trade_off,
)
from vqi.evaluation.thresholds import Calibration, Threshold, calibrate, check_rate, read_calibration
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput
from vqi.platform.files import whole_folder, write_json, write_whole
from vqi.platform.logs import logger
from vqi.steps.evaluate.collector import Collector
from vqi.steps.evaluate.learning import learning
from vqi.steps.train.cross_validation import cross_validation_sentence
from vqi.tracking.comparisons import trial_tags
from vqi.tracking.runs import check_tracking, code_version, shown_address, track_run, tracking_address

log = logger(__name__)

# What results.json keeps of a training; the history is in the report and in MLflow.
TRAINING = (
    "steps",
    "epochs",
    "batch_size",
    "processes",
    "seconds",
    "images_per_second",
    "waited_share",
    "stopped",
    "learned_images",
    "budgets",
    "cross_validation",
)
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "opencv-python-headless")


def evaluate(
    *,
    dataset: Path,
    network: Path,
    index: Path,
    false_reject_rate: float,
    compute: Compute,
    tracking_uri: str,
    experiment: str,
    evaluation: Path,
    report: Path,
    comparison: str = "",
    seconds: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Score the test split and write `evaluation` (results.json, predictions.csv, pictures/) and the page `report`;
    returns the results.

    `comparison` (RUN/TRIAL) makes the record a trial of another MLflow run; `seconds` are what the steps before this
    one took, for the record. Images stream through: no photograph is kept, and of the maps 4 bytes a pixel (see
    PixelScores). Tracking is checked before anything is scored; where it breaks later, `evaluation` and `report` are
    complete all the same and RunFailed is raised after them. Raises BadInput for unusable input, RunFailed where a
    score is not finite.
    """
    started = time.monotonic()
    check_rate(false_reject_rate)
    data, notes = Dataset(dataset), read_network_notes(network)
    geometry = Geometry.from_dict(notes["notes"]["geometry"])
    calibration = read_calibration(index)
    box_rule = BoxRule.of_method(notes["settings"])
    threshold = calibrate(calibration, false_reject_rate, box_rule.marks_good)
    samples = data.samples("test")
    if not samples:
        raise BadInput(
            f"The data set {data.manifest.name!r} has an empty test split, so there is nothing to evaluate on; add "
            "test images."
        )
    check_tracking(tracking_uri, experiment)

    collector = Collector(data, samples, geometry, threshold, box_rule)
    detector = to_device(load_detector(network, index), compute)
    with whole_folder(evaluation) as folder:
        for sample, score, values in score_samples(detector, data, samples, geometry, compute):
            collector.add(sample, score, values, folder / PICTURES)
        results = _results(data, notes, calibration, threshold, collector, compute)
        # A bank that its time budget cut short comes first: every figure depends on it.
        results["notes"] = [*detector.build_notes, *results["notes"]]
        write_json(folder / RESULTS, results)
        write_json(folder / EXAMPLES, collector.examples)
        write_whole(folder / PREDICTIONS, predictions_csv(collector.predictions).encode("utf-8", "backslashreplace"))
        write_report(
            report,
            results,
            collector.chooser.chosen(),
            learning(network, notes["notes"], data, geometry),
            _decisive_photograph(results, data),
        )

    log.info(table(results))
    run_id = track_run(
        uri=tracking_uri,
        experiment=experiment,
        run_name=f"{results['name']} {results['method']}",
        parameters=_parameters(results, compute),
        metrics={
            **results["metrics"],
            "threshold_image": threshold.image,
            "threshold_pixel": threshold.pixel,
            **_cost(seconds, started),
        },
        tags={
            "vqi.category": results["name"],
            "vqi.dataset_fingerprint": results["dataset_fingerprint"],
            "vqi.code": results["versions"]["vqi"],
            "vqi.weights": results["weights"]["label"],
            **trial_tags(comparison),
        },
        artifacts=[evaluation / RESULTS, evaluation / PREDICTIONS, evaluation / EXAMPLES, report],
        run_id=notes["notes"].get("training", {}).get("run_id", ""),
    )
    if run_id:
        results["tracking"] = {
            "uri": shown_address(tracking_address(tracking_uri)),
            "experiment": experiment,
            "run_id": run_id,
        }
        write_json(evaluation / RESULTS, results)
    return results


def _results(
    data: Dataset,
    notes: dict[str, Any],
    calibration: Calibration,
    threshold: Threshold,
    collector: Collector,
    compute: Compute,
) -> dict[str, Any]:
    measurements = compute_metrics(collector.predictions, collector.pixels, threshold, collector.left_out["regions"])
    measurements["counts"] |= {
        "train_images": len(data.samples("train")),
        "labelled_images": len(data.samples("labelled")),
        "calibration_images": threshold.calibration_images,
        "masked_defect_images": sum(s.label == "defect" and bool(s.masks) for s in data.samples("test")),
    }
    if settings_class(notes["method"]).supervised:
        metrics, sentence = classified(collector.predictions)
        measurements["metrics"] |= metrics
        measurements["notes"].append(sentence)
        if folds := notes["notes"].get("training", {}).get("cross_validation"):
            measurements["notes"].append(cross_validation_sentence(folds))
    trained_on = notes["notes"].get("dataset_fingerprint")
    if trained_on and trained_on != data.manifest.fingerprint:
        measurements["notes"].append(
            f"The network was made from another data set ({trained_on[:12]}) than the one measured here "
            f"({data.manifest.fingerprint[:12]}): "
            "the promise about good parts holds for parts like those it was calibrated on."
        )
    return {
        "format": FORMAT,
        "name": data.manifest.name,
        "verdict": judged(collector.predictions, calibration, threshold),
        "dataset_fingerprint": data.manifest.fingerprint,
        "method": notes["method"],
        "settings": notes["settings"],
        "backbone": notes["backbone"],
        "weights": notes["weights"],
        "geometry": notes["notes"]["geometry"],
        "seed": notes["seed"],
        "precision": compute.precision,
        "threshold": asdict(threshold),
        "boxes": collector.box_rule.to_dict(),
        "training": {key: value for key, value in notes["notes"].get("training", {}).items() if key in TRAINING},
        **measurements,
        "trade_off": trade_off(collector.predictions, calibration),
        "notes": [
            *outlier_notes(calibration),
            *measurements["notes"],
            *collector.notes(),
            *few_labelled(data.manifest),
            *data.manifest.notes,
        ],
        "versions": _versions(),
    }


def _decisive_photograph(results: dict[str, Any], data: Dataset) -> np.ndarray | None:
    """The photograph, uint8 [H, W, 3], that sets the threshold alone; None where there is none such, or not in this
    data set.
    """
    decisive = results["verdict"]["decisive"]
    if decisive is None or decisive["count"] > 1:
        return None
    sample = next((sample for sample in data.samples() if sample.path == decisive["photographs"][0]), None)
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


def _parameters(results: dict[str, Any], compute: Compute) -> dict[str, Any]:
    """What the run was made with, flat."""
    backbone, geometry, threshold = results["backbone"], results["geometry"], results["threshold"]
    return {
        "method": results["method"],
        **{f"method.{key}": value for key, value in results["settings"].items()},
        "backbone.name": backbone["name"],
        "backbone.layers": "+".join(backbone.get("layers", ())),
        "weights": results["weights"]["label"],
        "weights.sha256": results["weights"].get("sha256") or "",
        **{f"image.{key}": value for key, value in geometry.items()},
        "threshold.kind": threshold["kind"],
        "threshold.false_reject_rate": threshold["requested_false_reject_rate"],
        "compute.device": compute.device,
        "compute.precision": compute.precision,
        **{
            f"train.{key}": value
            for key, value in results["training"].items()
            if key in ("steps", "epochs", "batch_size", "processes", "stopped")
        },
        "seed": results["seed"],
        "dataset.name": results["name"],
        "dataset.fingerprint": results["dataset_fingerprint"],
    }
