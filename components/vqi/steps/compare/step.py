"""compare: gather what the trials of a comparison left in MLflow, and put it side by side."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vqi.evaluation.records import EXAMPLES, RESULTS, ComparedPhotograph, parse_examples, parse_results
from vqi.platform.errors import BadInput, RunFailed, VqiError
from vqi.platform.files import write_whole
from vqi.platform.logs import logger
from vqi.steps.compare.comparison import COMPARISON, ComparisonRecord, write_comparison_record
from vqi.steps.compare.failures import trial_failures
from vqi.steps.compare.page import comparison_page
from vqi.steps.compare.table import comparison_table
from vqi.steps.compare.trial_result import FIGURES, Costs, TrialResult, method_means
from vqi.steps.reports import REPORTS, StepReport, read_run_reports
from vqi.tracking.comparisons import Comparison, PlannedTrial, TrialRun

log = logger(__name__)

PAGE = "comparison.html"
NOT_EVALUATED = "it did not come to an evaluation; the log of its first step that failed says why"
NOT_EXPORTED = "it was evaluated, but no bundle was exported"


def compare(*, key: str, tracking_uri: str, experiment: str, page: Path) -> ComparisonRecord:
    """Write `page` of the comparison that plan_trials began under `key`, complete its MLflow run, and return its
    record.

    A trial that left nothing is listed as failed, with the sentence of its step where that reported one. Raises
    RunFailed where the comparison was never begun or MLflow does not answer.
    """
    comparison = Comparison.find(tracking_uri, experiment, key)
    if comparison is None:
        raise RunFailed("No trials were planned, so there is nothing to compare; the log of plan trials says why.")
    planned = comparison.read_trials()
    keys = {trial.key: trial.trial for trial in planned if trial.key}
    failures = trial_failures(_reports(key), comparison.run_id, keys) if keys else None
    trial_results = gather(comparison, planned, key, failures or ())
    if any(not trial_result.complete for trial_result in trial_results):
        if failures is None:
            failures = trial_failures(_reports(key), comparison.run_id)
        trial_results = explain(trial_results, failures)
    record = write_comparison(f"Comparison {key[:8]}", trial_results, page, comparison)
    comparison.end_left_runs(key)
    return record


def gather(
    comparison: Comparison, planned: Sequence[PlannedTrial], key: str, began: Collection[str] = ()
) -> list[TrialResult]:
    """What came of every trial that was planned, as MLflow knows it. `key` is that of the comparison, `began` are the
    marks of trials that reported anything in it."""
    runs = comparison.trial_runs()
    return [
        _trial_result(comparison, trial, runs.get(trial.trial) or _of_its_key(comparison, trial, key, began))
        for trial in planned
    ]


def _of_its_key(comparison: Comparison, planned: PlannedTrial, key: str, began: Collection[str]) -> TrialRun | None:
    """The run of a trial by the trial's key, which becomes one of this comparison: that of the same KFP run; or, of a
    trial that did not begin here, as it came from KFP's cache, the latest that has a bundle."""
    for run in comparison.runs_of_key(planned.key) if planned.key else ():
        if run.kfp_run == key or (planned.trial not in began and "bundle_mib" in run.metrics):
            comparison.adopt(run.run_id, planned.trial)
            return run
    return None


def explain(trial_results: Sequence[TrialResult], failures: Mapping[str, str]) -> list[TrialResult]:
    """The trials, with the sentence of the step that failed where it is known why one is not complete."""
    reasons = {NOT_EVALUATED: "", NOT_EXPORTED: f"{NOT_EXPORTED}; "}
    return [
        replace(trial_result, reason=reasons[trial_result.reason] + failures[trial_result.trial])
        if trial_result.reason in reasons and trial_result.trial in failures
        else trial_result
        for trial_result in trial_results
    ]


def _reports(run: str) -> list[StepReport]:
    """What the run's steps said of themselves; nothing where they report nowhere, or the store does not answer."""
    prefix = os.environ.get(REPORTS, "")
    if not prefix.startswith("s3://"):
        return []
    try:
        return read_run_reports(prefix, run)
    except VqiError as error:
        log.warning(f"Why trials failed is not known here: {error}")
        return []


def write_comparison(
    title: str, trial_results: Sequence[TrialResult], page: Path, comparison: Comparison | None
) -> ComparisonRecord:
    """Write the page, print the table, complete the comparison's MLflow run where there is one; returns the record."""
    write_whole(page, comparison_page(title, trial_results))
    log.info(comparison_table(trial_results))
    record = summarise(trial_results)
    if comparison is not None:
        with tempfile.TemporaryDirectory() as folder:
            write_comparison_record(Path(folder), record)
            write_whole(Path(folder) / PAGE, page.read_bytes())
            files = [Path(folder) / COMPARISON, Path(folder) / PAGE]
            comparison.finish(flat_metrics(record), files, complete=record.failed == 0)
    return record


def summarise(trial_results: Sequence[TrialResult]) -> ComparisonRecord:
    """The comparison in numbers."""
    return ComparisonRecord(
        trials=tuple(trial_result.row for trial_result in trial_results),
        failed=sum(not trial_result.complete for trial_result in trial_results),
        means=method_means(trial_results),
    )


def flat_metrics(record: ComparisonRecord, numbered: bool = False) -> dict[str, float]:
    """The means by names that MLflow and KFP both take, with the counts of trials. KFP sorts by name: `numbered` names
    keep the order of the table."""
    means = {
        f"{_plain(label)}/{f'{number}_' if numbered else ''}{name}": round(value, 6)
        for label, row in record.means.items()
        for number, name in enumerate(FIGURES, 1)
        if (value := row.figure(name)) is not None
    }
    return {"trials": float(len(record.trials)), "failed": float(record.failed), **means}


def _plain(label: str) -> str:
    return "".join(c if (c.isascii() and c.isalnum()) or c in "_-. " else " " for c in label)[:120].strip()


def _trial_result(comparison: Comparison, planned: PlannedTrial, run: TrialRun | None) -> TrialResult:
    trial = TrialResult(planned.trial, planned.category, planned.method, planned.label, reason=NOT_EVALUATED)
    text = comparison.read_text(run.run_id, RESULTS) if run else None
    if run is None or text is None:
        return trial
    try:
        results = parse_results(text)
    except BadInput as error:  # stored by another version, or damaged
        return replace(trial, reason=str(error).removesuffix("."), run_id=run.run_id)
    costs = Costs(run.metrics.get("latency_ms"), run.metrics.get("bundle_mib"), run.metrics.get("seconds"))
    return replace(
        trial,
        results=results,
        costs=costs,
        examples=_examples(comparison, run),
        reason="" if costs.bundle_mib is not None else NOT_EXPORTED,
        run_id=run.run_id,
    )


def _examples(comparison: Comparison, run: TrialRun) -> tuple[ComparedPhotograph, ...]:
    """The photographs that a trial shows; none where they cannot be read: the numbers count without them."""
    text = comparison.read_text(run.run_id, EXAMPLES)
    try:
        return () if text is None else parse_examples(text)
    except BadInput as error:
        log.warning(f"The photographs of {run.run_id} are not shown: {error}")
        return ()
