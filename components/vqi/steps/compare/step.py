"""compare: gather what the legs of a comparison left in MLflow, and put it side by side."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vqi.evaluation.results import EXAMPLES, RESULTS
from vqi.platform.errors import RunFailed
from vqi.platform.files import write_json, write_whole
from vqi.steps.compare.outcome import FIGURES, Outcome, method_means
from vqi.steps.compare.page import comparison_page
from vqi.steps.compare.table import comparison_table
from vqi.tracking.comparisons import Comparison, LegRun

COSTS = ("latency_ms", "bundle_mib", "seconds")
SUMMARY, PAGE = "comparison.json", "comparison.html"
NOT_EVALUATED = "it did not come to an evaluation; the log of its first step that failed says why"
NOT_EXPORTED = "it was evaluated, but no bundle was exported"


def compare(*, key: str, tracking_uri: str, experiment: str, page: Path) -> dict[str, Any]:
    """Write `page` of the comparison that plan_legs began under `key`, complete its MLflow run, and return its summary.

    A leg that left nothing is listed as failed. Raises RunFailed where the comparison was never begun or MLflow does not answer.
    """
    comparison = Comparison.find(tracking_uri, experiment, key)
    if comparison is None:
        raise RunFailed("No legs were planned, so there is nothing to compare; the log of plan legs says why.")
    return write_comparison(f"Comparison {key[:8]}", gather(comparison), page, comparison)


def gather(comparison: Comparison) -> list[Outcome]:
    """What came of every leg that was planned, as MLflow knows it."""
    runs = comparison.leg_runs()
    return [_outcome(comparison, planned, runs.get(str(planned["leg"]))) for planned in comparison.read_legs()]


def write_comparison(title: str, outcomes: Sequence[Outcome], page: Path, comparison: Comparison | None) -> dict[str, Any]:
    """Write the page, print the table, complete the comparison's MLflow run where there is one; returns the summary."""
    write_whole(page, comparison_page(title, outcomes))
    print(comparison_table(outcomes), file=sys.stderr, flush=True)
    summary = summarise(outcomes)
    if comparison is not None:
        with tempfile.TemporaryDirectory() as folder:
            write_json(Path(folder) / SUMMARY, summary)
            write_whole(Path(folder) / PAGE, page.read_bytes())
            complete = summary["failed"] == 0
            comparison.finish(flat_metrics(summary), [Path(folder) / SUMMARY, Path(folder) / PAGE], complete)
    return summary


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The comparison as JSON values."""
    return {
        "legs": [outcome.to_dict() for outcome in outcomes],
        "failed": sum(not outcome.complete for outcome in outcomes),
        "means": {mean.label: {"legs": mean.legs, **mean.means} for mean in method_means(outcomes)},
    }


def flat_metrics(summary: dict[str, Any]) -> dict[str, float]:
    """The means by names that MLflow and KFP both take, with the counts of legs."""
    named = {label: "".join(c if (c.isascii() and c.isalnum()) or c in "_-. " else " " for c in label)[:120].strip() for label in summary["means"]}
    means = {f"{named[label]}/{name}": round(row[name], 6) for label, row in summary["means"].items() for name in FIGURES if name in row}
    return {"legs": float(len(summary["legs"])), "failed": float(summary["failed"]), **means}


def _outcome(comparison: Comparison, planned: dict[str, Any], run: LegRun | None) -> Outcome:
    mark, category, method, label = (str(planned.get(name, "")) for name in ("leg", "category", "method", "label"))
    leg = Outcome(mark, category, method, label, reason=NOT_EVALUATED)
    results = comparison.read_json(run.run_id, RESULTS) if run else None
    if run is None or not isinstance(results, dict):
        return leg
    examples = comparison.read_json(run.run_id, EXAMPLES)
    costs = {name: run.metrics[name] for name in COSTS if name in run.metrics}
    return replace(
        leg,
        results=results,
        costs=costs,
        examples=tuple(item for item in examples if isinstance(item, dict)) if isinstance(examples, list) else (),
        reason="" if "bundle_mib" in costs else NOT_EXPORTED,
        run_id=run.run_id,
    )
