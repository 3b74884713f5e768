"""What came of each trial of a comparison, as numbers side by side. What is read here was stored by other steps and is
not trusted to be whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

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
class TrialResult:
    """One trial.

    `results` is its results.json, empty where it never came to an evaluation; `costs` are those of FIGURES that depend
    on machine and day; `reason` says in a sentence why something is missing.
    """

    trial: str
    category: str
    method: str
    label: str
    results: Mapping[str, Any] = field(default_factory=dict)
    costs: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[dict[str, Any], ...] = ()
    reason: str = ""
    run_id: str = ""

    @property
    def complete(self) -> bool:
        return bool(self.results) and not self.reason

    @property
    def figures(self) -> dict[str, float]:
        """The FIGURES that are there, finite numbers all."""
        values = {**_mapping(self.results.get("metrics")), **self.costs}
        return {name: float(values[name]) for name in FIGURES if _number(values.get(name))}

    @property
    def roc(self) -> list[tuple[float, float]]:
        """Points (good parts rejected, defects found) of its ROC; none where the set has one label alone."""
        points = self.results.get("roc")
        pairs = [point[:2] for point in points if isinstance(point, list)] if isinstance(points, list) else []
        return [
            (float(x), float(y)) for x, y in (pair for pair in pairs if len(pair) == 2) if _number(x) and _number(y)
        ]

    def to_dict(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in ("trial", "category", "method", "label", "reason", "run_id")}
        fingerprint = self.results.get("dataset_fingerprint", "")
        return {**fields, "complete": self.complete, "fingerprint": fingerprint, "figures": self.figures}


@dataclass(frozen=True)
class MethodMean:
    """Means of one method over the categories it was measured on; `counts` says over how many trials each mean was
    taken."""

    label: str
    trials: int
    means: dict[str, float]
    counts: dict[str, int]


def method_means(trial_results: Iterable[TrialResult]) -> list[MethodMean]:
    """Means by label, in the order of the trials, of those that came to an evaluation."""
    by_label: dict[str, list[dict[str, float]]] = {}
    for trial_result in trial_results:
        if trial_result.results:
            by_label.setdefault(trial_result.label, []).append(trial_result.figures)
    rows = []
    for label, figures in by_label.items():
        values = {name: [row[name] for row in figures if name in row] for name in FIGURES}
        filled = {name: column for name, column in values.items() if column}
        rows.append(
            MethodMean(
                label, len(figures), {n: fmean(c) for n, c in filled.items()}, {n: len(c) for n, c in filled.items()}
            )
        )
    return rows


def shown(name: str, value: float | None) -> str:
    """A figure as a person reads it; `-` where it is missing."""
    return "-" if value is None else FIGURES[name][1].format(value)


def by_category(trial_results: Iterable[TrialResult]) -> dict[str, list[TrialResult]]:
    """The trials of each category, in their order."""
    groups: dict[str, list[TrialResult]] = {}
    for trial_result in trial_results:
        groups.setdefault(trial_result.category, []).append(trial_result)
    return groups


def best(rows: Iterable[Mapping[str, float]], name: str) -> str:
    """The best of a figure among rows, as it is shown; empty where all that is shown is alike."""
    values = [row[name] for row in rows if name in row]
    if len({shown(name, value) for value in values}) < 2:
        return ""
    return shown(name, max(values) if FIGURES[name][2] else min(values))


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
