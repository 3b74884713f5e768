"""Results for KFP's own artefact types: finite values only (NaN and infinities crash a step: kubeflow/pipelines#12227),
at most 200 ROC points."""

from __future__ import annotations

import math
from typing import Any

from vqi.evaluation.records import Results

ROC_POINTS = 200


def finite_metrics(results: Results) -> dict[str, float]:
    """The metrics that are finite numbers, and the threshold; rounded to six decimals, as KFP's table cuts them."""
    values = {**results.metrics.numbers, "threshold": results.threshold.image}
    return {name: round(value, 6) for name, value in values.items() if value is not None and math.isfinite(value)}


def log_metrics(artefact: Any, results: Results) -> None:
    """Log `finite_metrics` to a `dsl.Metrics` artefact."""
    for name, value in finite_metrics(results).items():
        artefact.log_metric(name, value)


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
