"""What KFP's own panels show of an evaluation."""

from __future__ import annotations

from typing import Any

from example_results import example_results, metrics
from vqi.steps.evaluate.kfp_metrics import ROC_POINTS, finite_metrics, log_classification, log_metrics


class Artefact:
    """What a dsl.Metrics or dsl.ClassificationMetrics is given."""

    def __init__(self) -> None:
        self.metadata: dict[str, float] = {}
        self.roc: list[Any] = []
        self.confusion: list[Any] = []

    def log_metric(self, name: str, value: float) -> None:
        self.metadata[name] = value

    def log_roc_curve(self, *columns: list[float]) -> None:
        self.roc = list(zip(*columns, strict=True))

    def log_confusion_matrix(self, labels: list[str], matrix: list[list[int]]) -> None:
        self.confusion = matrix


def test_six_metrics_stand_in_their_order_and_all_of_them_are_known() -> None:
    results = example_results(
        metrics=metrics(
            recall=0.9, false_reject_rate=0.0, kappa=0.8, balanced_accuracy=0.9, aupro=None, pixel_auroc=float("inf")
        )
    )
    shown = Artefact()
    log_metrics(shown, results)
    assert sorted(shown.metadata) == ["1_image_auroc", "2_recall", "3_false_reject_rate", "6_threshold"]
    everything = finite_metrics(results)
    for name, value in shown.metadata.items():
        assert everything[name.partition("_")[2]] == value
    assert {"kappa", "balanced_accuracy", "threshold"} <= set(everything)
    assert "aupro" not in everything


def test_a_roc_has_few_finite_points_and_its_ends() -> None:
    points = tuple((rank / 999, 1.0, float(rank)) for rank in range(1000))
    logged = Artefact()
    log_classification(logged, example_results(roc=((0.0, 0.0, float("inf")), *points)))
    assert len(logged.roc) == ROC_POINTS
    assert (logged.roc[0], logged.roc[-1]) == (points[0], points[-1])
    assert len(logged.confusion) == len(logged.confusion[0]) == 2
