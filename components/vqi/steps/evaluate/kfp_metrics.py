"""Results for KFP's own artefact types: finite values only (NaN and infinities crash a step: kubeflow/pipelines#12227),
at most 200 ROC points."""

from __future__ import annotations

import math
from typing import Any

from vqi.evaluation.records import Results

ROC_POINTS = 200
# What a person needs first, in this order: KFP lists an artefact's metrics by the alphabet. All of them are metadata of
# the artefact `evaluation`.
SHOWN = ("image_auroc", "recall", "false_reject_rate", "pixel_auroc", "aupro", "threshold")


def finite_metrics(results: Results) -> dict[str, float]:
    """The metrics that are finite numbers, and the threshold; rounded to six decimals, as KFP's table cuts them."""
    values = {**results.metrics.numbers, "threshold": results.threshold.image}
    return {name: round(value, 6) for name, value in values.items() if value is not None and math.isfinite(value)}


def log_metrics(artefact: Any, results: Results) -> None:
    """Log those of `finite_metrics` that are SHOWN to a `dsl.Metrics` artefact, their number before their names."""
    values = finite_metrics(results)
    for number, name in enumerate(SHOWN, 1):
        if name in values:
            artefact.log_metric(f"{number}_{name}", values[name])


def log_classification(artefact: Any, results: Results) -> None:
    """Log the ROC (finite points, thinned evenly, ends kept) and the confusion matrix to a `dsl.ClassificationMetrics`
    artefact.

    A set with normals alone, or defects alone, has neither; the artefact then stays empty.
    """
    points = [point for point in results.roc if all(math.isfinite(v) for v in point)]
    if len(points) > ROC_POINTS:
        points = [points[round(i * (len(points) - 1) / (ROC_POINTS - 1))] for i in range(ROC_POINTS)]
    if points:
        artefact.log_roc_curve([p[0] for p in points], [p[1] for p in points], [p[2] for p in points])
    confusion = results.metrics.confusion
    artefact.log_confusion_matrix(
        ["good", "defect"],
        [
            [confusion.true_negative, confusion.false_positive],
            [confusion.false_negative, confusion.true_positive],
        ],
    )
