"""A comparison for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from vqi.platform.printing import printable
from vqi.steps.compare.outcome import Outcome, by_category, method_means, shown

COLUMNS = {
    "image_auroc": "image AUROC",
    "aupro": "AUPRO",
    "recall": "found",
    "false_reject_rate": "rejected",
    "latency_ms": "ms",
    "bundle_mib": "MiB",
    "seconds": "seconds",
}


def comparison_table(outcomes: Sequence[Outcome]) -> str:
    """Every leg below its category, means per method, and a sentence for every leg that is not complete."""
    width = max([len(_short(outcome.label)) for outcome in outcomes] + [8]) + 2
    head = " " * (width + 2) + "".join(title.rjust(13) for title in COLUMNS.values())
    lines = [head]
    for name, legs in by_category(outcomes).items():
        lines.append(printable(name))
        lines += [f"  {_short(leg.label):{width}}{_cells(leg.figures)}{'' if leg.complete else '  !'}" for leg in legs]
    means = method_means(outcomes)
    if means:
        lines.append("mean of each method")
        lines += [f"  {_short(mean.label):{width}}{_cells(mean.means)}  of {mean.legs}" for mean in means]
    lines += [printable(f"! {leg.category}, {leg.label}: {leg.reason}") for leg in outcomes if not leg.complete]
    return "\n".join(lines)


def _cells(figures: dict[str, float]) -> str:
    return "".join(shown(name, figures.get(name)).rjust(13) for name in COLUMNS)


def _short(label: str) -> str:
    return printable(label if len(label) <= 40 else label[:39] + "…")
