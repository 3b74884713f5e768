"""Results of an evaluation that never was, whole and valid: what reads results is tried with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from vqi.dataset.geometry import Geometry
from vqi.detectors.settings import BackboneSettings
from vqi.evaluation.box_rule import Boxes
from vqi.evaluation.histogram import Histogram
from vqi.evaluation.metrics import Confusion
from vqi.evaluation.records import Choice, Counts, Metrics, Results, TypeMetrics
from vqi.evaluation.thresholds import Threshold
from vqi.evaluation.verdict import summarise_decisions
from vqi.storage.weights import WeightsOrigin


def confusion(true_positive: int, false_positive: int, true_negative: int, false_negative: int) -> Confusion:
    """In the order of Confusion's fields."""
    return Confusion(
        true_positive=true_positive,
        false_positive=false_positive,
        true_negative=true_negative,
        false_negative=false_negative,
    )


def metrics(**changes: Any) -> Metrics:
    """Some metrics, the others None."""
    unknown = dict.fromkeys(Metrics.model_fields)
    measured = {
        "image_auroc": 0.98765,
        "pixel_auroc": 1.0,
        "aupro": 0.5,
        "pixel_dice": 0.25,
        "confusion": confusion(9, 0, 20, 1),
    }
    return Metrics(**{**unknown, **measured, **changes})


def type_metrics(images: int, **changes: float | None) -> TypeMetrics:
    """Of one defect type; what is not named is None."""
    unknown = dict.fromkeys(("image_auroc", "recall", "pixel_auroc", "aupro", "pixel_recall"))
    return TypeMetrics(images=images, **{**unknown, **changes})


def choice(**changes: Any) -> Choice:
    """A row of the trade-off."""
    values = {"rate": 0.1, "promised": 0.1, "rate_95": 0.21, "threshold": 1.75, "confusion": confusion(10, 2, 18, 0)}
    return Choice(**{**values, **changes})


def weights(**changes: Any) -> WeightsOrigin:
    return WeightsOrigin(**{"kind": "file", "label": "ImageNet (file)", "sha256": "ab" * 32, **changes})


def backbone(**changes: Any) -> BackboneSettings:
    values = {"name": "resnet18", "weights": "w.pth", "sha256": "", "layers": ("layer2", "layer3")}
    return BackboneSettings(**{**values, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), **changes})


def threshold(**changes: Any) -> Threshold:
    values = {
        "image": 2.0,
        "pixel": 1.5,
        "floor": 0.0,
        "kind": "cross",
        "requested_false_reject_rate": 0.01,
        "false_reject_rate": 0.05,
        "chance_above": None,
        "rate_95": None,
        "either_rate": None,
        "calibration_images": 19,
        "folds": 5,
        "guarantee": "At most 5 % of good parts are rejected on average.",
    }
    return Threshold(**{**values, **changes})


def counts(**changes: int) -> Counts:
    return Counts(**{**dict.fromkeys(Counts.model_fields, 0), "train_images": 100, "good": 20, "defect": 10, **changes})


def example_results(**changes: Any) -> Results:
    """`changes` are fields of Results; the verdict is that of the metrics unless it is one of them."""
    scores = [*np.linspace(0.5, 1.5, 20), *np.linspace(1.9, 4, 10)]
    values: dict[str, Any] = {
        "name": "bracket",
        "dataset_fingerprint": "0123456789abcdef" * 4,
        "method": "patchcore",
        "settings": {"coreset_ratio": 0.01, "neighbours": 9},
        "backbone": backbone(),
        "weights": weights(),
        "geometry": Geometry(size=(256, 256)),
        "seed": 0,
        "precision": "float32",
        "threshold": threshold(),
        "boxes": Boxes(),
        "training": None,
        "metrics": metrics(),
        "per_defect": {
            "scratch": type_metrics(10, image_auroc=0.9),
            "dent": type_metrics(0, aupro=0.5),
        },
        "mean_scores": {"scratch": 3.0, "good": 1.0},
        "counts": counts(),
        "notes": ("aupro_05 and others are left out: no mask was drawn.",),
        "roc": ((0.0, 0.0, 9.0), (0.0, 0.9, 2.0), (1.0, 1.0, 0.1)),
        "histogram": Histogram.of(["good"] * 20 + ["defect"] * 10, scores),
        "trade_off": (),
        "versions": {"vqi": "0.1.0"},
        **changes,
    }
    return Results(**{"verdict": summarise_decisions(values["metrics"].confusion), **values})
