"""A comparison for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from vqi.platform.printing import printable
from vqi.steps.compare.comparison import Figures
from vqi.steps.compare.trial_result import TrialResult, by_category, method_means, shown

COLUMNS = {
    "image_auroc": "image AUROC",
    "aupro": "AUPRO",
    "recall": "found",
    "false_reject_rate": "rejected",
    "latency_ms": "ms",
    "bundle_mib": "MiB",
    "seconds": "seconds",
}


def comparison_table(trial_results: Sequence[TrialResult]) -> str:
    """Every trial below its category, means per method, and a sentence for every trial that is not complete."""
    width = max([len(_short(trial_result.label)) for trial_result in trial_results] + [8]) + 2
    head = " " * (width + 2) + "".join(title.rjust(13) for title in COLUMNS.values())
    lines = [head]
    for name, trials in by_category(trial_results).items():
        lines.append(printable(name))
        lines += [
            f"  {_short(trial.label):{width}}{_cells(trial.figures)}{'' if trial.complete else '  !'}"
            for trial in trials
        ]
    means = method_means(trial_results)
    if means:
        lines.append("mean of each method")
        lines += [f"  {_short(label):{width}}{_cells(mean)}  of {mean.trials}" for label, mean in means.items()]
    lines += [
        printable(f"! trial {trial.trial}, {trial.category}, {trial.label}: {trial.reason}")
        for trial in trial_results
        if not trial.complete
    ]
    return "\n".join(lines)


def _cells(figures: Figures) -> str:
    return "".join(shown(name, figures.figure(name)).rjust(13) for name in COLUMNS)


def _short(label: str) -> str:
    return printable(label if len(label) <= 40 else label[:39] + "…")
