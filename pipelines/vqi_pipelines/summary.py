"""What a person sees when a local run is over."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vqi.category import Category
from vqi.platform.printing import printable
from vqi_pipelines.local_run import Summary

SHOWN = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO (to FPR 0.3)",
    "image_f1_max": "image F1, best threshold",
    "balanced_accuracy": "balanced accuracy at the threshold",
}


def print_summary(category: Category, summary: Summary) -> None:
    """Print metrics, costs, the notes a person must not miss, and where everything is."""
    console = Console()
    weights = summary.weights.label if summary.weights else ""
    console.print()
    for sentence in summary.verdict.text if summary.verdict else ():
        console.print(Text(printable(sentence)))
    console.print()
    table = Table(
        title=Text(f"{summary.name}: {category.method.name} on {category.backbone.name}, {printable(weights)}"),
        title_justify="left",
    )
    table.add_column("metric")
    table.add_column("value", justify="right")
    if metrics := summary.metrics:
        for key, title in SHOWN.items():
            table.add_row(title, _figure(getattr(metrics, key)))
        confusion = metrics.confusion
        table.add_row("defects found", f"{confusion.true_positive} of {confusion.defects}")
        table.add_row("good parts rejected", f"{confusion.false_positive} of {confusion.good}")
    console.print(table)
    costs = Table()
    for title in ("step", "seconds", "peak MiB"):
        costs.add_column(title, justify="left" if title == "step" else "right")
    for step, seconds in summary.seconds.items():
        peak = summary.peak_mib.get(step)
        costs.add_row(step, f"{seconds:.1f}", "" if peak is None else f"{peak:.0f}")
    console.print(costs)
    for note in [summary.threshold.guarantee if summary.threshold else "", *summary.notes]:
        if note:
            console.print(Text(printable(f"- {note}")))
    console.print()
    for title, path in (
        ("Report", summary.report),
        ("Dataset check", summary.check_page),
        ("Bundle", summary.bundle),
        ("Its formats", f"{summary.bundle}/bundle.html" if summary.bundle else ""),
        ("Run", summary.run_dir),
    ):
        if path:
            console.print(Text(printable(f"{title + ':':15}{path}")), soft_wrap=True)
    console.print(Text(printable(f"{'MLflow:':15}{summary.tracking_uri}")), soft_wrap=True)
    console.print(Text(printable(f"{'Use it:':15}vqi predict {summary.bundle} IMAGES...")), soft_wrap=True)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
