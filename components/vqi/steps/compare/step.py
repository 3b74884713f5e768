"""compare: gather what the trials of a comparison left in MLflow, and put it side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vqi.evaluation.results import EXAMPLES, RESULTS
from vqi.platform.errors import RunFailed
from vqi.platform.files import write_json, write_whole
from vqi.platform.logs import logger
from vqi.steps.compare.page import comparison_page
from vqi.steps.compare.table import comparison_table
from vqi.steps.compare.trial_result import FIGURES, TrialResult, method_means
from vqi.tracking.comparisons import Comparison, TrialRun

log = logger(__name__)

COSTS = ("latency_ms", "bundle_mib", "seconds")
SUMMARY, PAGE = "comparison.json", "comparison.html"
NOT_EVALUATED = "it did not come to an evaluation; the log of its first step that failed says why"
NOT_EXPORTED = "it was evaluated, but no bundle was exported"


def compare(*, key: str, tracking_uri: str, experiment: str, page: Path) -> dict[str, Any]:
    """Write `page` of the comparison that plan_trials began under `key`, complete its MLflow run, and return its
    summary.

    A trial that left nothing is listed as failed. Raises RunFailed where the comparison was never begun or MLflow does
    not answer.
    """
    comparison = Comparison.find(tracking_uri, experiment, key)
    if comparison is None:
        raise RunFailed("No trials were planned, so there is nothing to compare; the log of plan trials says why.")
    return write_comparison(f"Comparison {key[:8]}", gather(comparison), page, comparison)


def gather(comparison: Comparison) -> list[TrialResult]:
    """What came of every trial that was planned, as MLflow knows it."""
    runs = comparison.trial_runs()
    return [_trial_result(comparison, planned, runs.get(str(planned["trial"]))) for planned in comparison.read_trials()]


def write_comparison(
    title: str, trial_results: Sequence[TrialResult], page: Path, comparison: Comparison | None
) -> dict[str, Any]:
    """Write the page, print the table, complete the comparison's MLflow run where there is one; returns the summary."""
    write_whole(page, comparison_page(title, trial_results))
    log.info(comparison_table(trial_results))
    summary = summarise(trial_results)
    if comparison is not None:
        with tempfile.TemporaryDirectory() as folder:
            write_json(Path(folder) / SUMMARY, summary)
            write_whole(Path(folder) / PAGE, page.read_bytes())
            complete = summary["failed"] == 0
            comparison.finish(flat_metrics(summary), [Path(folder) / SUMMARY, Path(folder) / PAGE], complete)
    return summary


def summarise(trial_results: Sequence[TrialResult]) -> dict[str, Any]:
    """The comparison as JSON values."""
    return {
        "trials": [trial_result.to_dict() for trial_result in trial_results],
        "failed": sum(not trial_result.complete for trial_result in trial_results),
        "means": {mean.label: {"trials": mean.trials, **mean.means} for mean in method_means(trial_results)},
    }


def flat_metrics(summary: dict[str, Any]) -> dict[str, float]:
    """The means by names that MLflow and KFP both take, with the counts of trials."""
    named = {
        label: "".join(c if (c.isascii() and c.isalnum()) or c in "_-. " else " " for c in label)[:120].strip()
        for label in summary["means"]
    }
    means = {
        f"{named[label]}/{name}": round(row[name], 6)
        for label, row in summary["means"].items()
        for name in FIGURES
        if name in row
    }
    return {"trials": float(len(summary["trials"])), "failed": float(summary["failed"]), **means}


def _trial_result(comparison: Comparison, planned: dict[str, Any], run: TrialRun | None) -> TrialResult:
    mark, category, method, label = (str(planned.get(name, "")) for name in ("trial", "category", "method", "label"))
    trial = TrialResult(mark, category, method, label, reason=NOT_EVALUATED)
    results = comparison.read_json(run.run_id, RESULTS) if run else None
    if run is None or not isinstance(results, dict):
        return trial
    examples = comparison.read_json(run.run_id, EXAMPLES)
    costs = {name: run.metrics[name] for name in COSTS if name in run.metrics}
    return replace(
        trial,
        results=results,
        costs=costs,
        examples=tuple(item for item in examples if isinstance(item, dict)) if isinstance(examples, list) else (),
        reason="" if "bundle_mib" in costs else NOT_EXPORTED,
        run_id=run.run_id,
    )
