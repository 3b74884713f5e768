"""What came of each trial of a comparison, as numbers side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from vqi.evaluation.records import ComparedPhotograph, Results
from vqi.steps.compare.comparison import Figures, MeanFigures, TrialRow

# Name, what a person is told, how it is written, and whether more is better. The names are short: the table must fit
# KFP's panel.
FIGURES: dict[str, tuple[str, str, bool]] = {
    "image_auroc": ("image AUROC", "{:.4f}", True),
    "pixel_auroc": ("pixel AUROC", "{:.4f}", True),
    "aupro": ("AUPRO", "{:.4f}", True),
    "recall": ("found", "{:.0%}", True),
    "false_reject_rate": ("rejected", "{:.1%}", False),
    "latency_ms": ("ms", "{:.0f}", False),
    "bundle_mib": ("MiB", "{:.1f}", False),
    "seconds": ("s", "{:.0f}", False),
}


@dataclass(frozen=True)
class Costs:
    """Those of FIGURES that depend on machine and day; None where a cost is not known."""

    latency_ms: float | None = None
    bundle_mib: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class TrialResult:
    """One trial. `results` is None where it never came to an evaluation; `reason` says in a sentence why something is
    missing."""

    trial: str
    category: str
    method: str
    label: str
    results: Results | None = None
    costs: Costs = Costs()
    examples: tuple[ComparedPhotograph, ...] = ()
    reason: str = ""
    run_id: str = ""

    @property
    def complete(self) -> bool:
        return self.results is not None and not self.reason

    @property
    def figures(self) -> Figures:
        """What there is to compare."""
        metrics = self.results.metrics if self.results else None
        return Figures(
            image_auroc=metrics.image_auroc if metrics else None,
            pixel_auroc=metrics.pixel_auroc if metrics else None,
            aupro=metrics.aupro if metrics else None,
            recall=metrics.recall if metrics else None,
            false_reject_rate=metrics.false_reject_rate if metrics else None,
            latency_ms=_finite(self.costs.latency_ms),
            bundle_mib=_finite(self.costs.bundle_mib),
            seconds=_finite(self.costs.seconds),
        )

    @property
    def roc(self) -> list[tuple[float, float]]:
        """Points (good parts rejected, defects found) of its ROC; none where the set has one label alone."""
        return [(false, true) for false, true, _ in self.results.roc] if self.results else []

    @property
    def row(self) -> TrialRow:
        """As the comparison's file holds it."""
        return TrialRow(
            trial=self.trial,
            category=self.category,
            method=self.method,
            label=self.label,
            reason=self.reason,
            run_id=self.run_id,
            complete=self.complete,
            fingerprint=self.results.dataset_fingerprint if self.results else "",
            figures=self.figures,
        )


def method_means(trial_results: Iterable[TrialResult]) -> dict[str, MeanFigures]:
    """Means by label, in the order of the trials, of those that came to an evaluation: of each figure over the trials
    that have it."""
    by_label: dict[str, list[Figures]] = {}
    for trial_result in trial_results:
        if trial_result.results:
            by_label.setdefault(trial_result.label, []).append(trial_result.figures)
    return {label: _mean(rows) for label, rows in by_label.items()}


def _mean(rows: list[Figures]) -> MeanFigures:
    columns = {name: [value for row in rows if (value := row.figure(name)) is not None] for name in FIGURES}
    return MeanFigures(trials=len(rows), **{name: fmean(column) for name, column in columns.items() if column})


def shown(name: str, value: float | None) -> str:
    """A figure as a person reads it; `-` where it is missing."""
    return "-" if value is None else FIGURES[name][1].format(value)


def by_category(trial_results: Iterable[TrialResult]) -> dict[str, list[TrialResult]]:
    """The trials of each category, in their order."""
    groups: dict[str, list[TrialResult]] = {}
    for trial_result in trial_results:
        groups.setdefault(trial_result.category, []).append(trial_result)
    return groups


def best(rows: Iterable[Figures], name: str) -> str:
    """The best of a figure among rows, as it is shown; empty where all that is shown is alike."""
    values = [value for row in rows if (value := row.figure(name)) is not None]
    if len({shown(name, value) for value in values}) < 2:
        return ""
    return shown(name, max(values) if FIGURES[name][2] else min(values))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
