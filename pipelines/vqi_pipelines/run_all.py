"""Every category with every method on this machine: one local run of train_category each, then a comparison.

A trial is a `vqi run` in a process of its own, so that one which dies takes nothing with it. What is finished is
remembered in the out folder, and a start with the same parameters, photographs, weights and code takes it from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vqi.category import Category
from vqi.deployment.bundle_files import SIDECAR
from vqi.evaluation.records import RESULTS, Results, read_examples, read_results
from vqi.platform.errors import BadInput, VqiError
from vqi.platform.files import canonical_json, write_json, write_whole
from vqi.platform.logs import variables_of_children
from vqi.platform.printing import printable
from vqi.platform.records import parse_part
from vqi.platform.system_errors import system_error
from vqi.steps.compare.comparison import ComparisonRecord, write_comparison_record
from vqi.steps.compare.step import PAGE, write_comparison
from vqi.steps.compare.trial_result import Costs, TrialResult
from vqi.steps.plan_trials.planning import Trial
from vqi.steps.reports import read_step_report
from vqi.storage.object_store import Address, ObjectStore
from vqi.tracking.comparisons import Comparison
from vqi.tracking.runs import code_version
from vqi_pipelines.compiling import pipeline_of
from vqi_pipelines.local_run import Summary

FINISHED = "finished"
RUN = "from vqi_pipelines.command import main; main()"


@dataclass(frozen=True)
class FinishedTrial:
    """How a trial ended: the summary of its run, or the sentence it failed with and its exit code. `again` says that it
    was finished before."""

    trial: Trial
    summary: Summary | None = None
    error: str = ""
    exit_code: int = 0
    again: bool = False


@dataclass(frozen=True)
class AllRuns:
    """What `run_all` left: the comparison, its page and folder, and the exit code (1 where a trial failed, 3 where
    gates alone refused)."""

    comparison: ComparisonRecord
    page: str
    folder: str
    exit_code: int


def run_all(
    trials: Sequence[Trial],
    out: Path,
    report: Callable[[str], None],
    parallel: int = 1,
    isolated: bool = False,
    compact: bool = False,
) -> AllRuns:
    """Run the trials, `parallel` at a time, and compare them; `report` gets each line that a person should see. Runs
    are `isolated` and `compact` as `run_category` says.

    A trial that fails is listed and the others go on. Raises BadInput where `out` cannot be written, or a trial has no
    compact form.
    """
    for trial in trials:
        pipeline_of(trial.category, compact)
    out = Path(out).resolve()
    folder = _new_folder(out)
    tracking = trials[0].category.tracking
    uri = tracking.uri or os.environ.get("MLFLOW_TRACKING_URI", "") or f"sqlite:///{out / 'mlflow.db'}"
    comparison = Comparison.begin(uri, tracking.experiment, f"run-all {folder.name}", folder.name)
    comparison.write_trials([trial.entry() for trial in trials])
    report(f"{len(trials)} runs, {parallel} at a time, in {out}")
    options = [*(["--isolated"] if isolated else []), *(["--compact"] if compact else [])]
    with ThreadPoolExecutor(parallel) as workers:
        running = _Running()
        try:
            finished_trials = list(
                workers.map(lambda trial: _run_trial(trial, out, folder, comparison, running, report, options), trials)
            )
        except BaseException:
            running.stop()
            with contextlib.suppress(VqiError):
                comparison.finish({}, [], complete=False)
            raise
    trial_results = [_trial_result(finished) for finished in finished_trials]
    page = folder / PAGE
    compared = write_comparison(
        f"{len({trial.category.name for trial in trials})} categories compared", trial_results, page, comparison
    )
    rows = [
        row.model_copy(
            update={
                "run_dir": finished.summary.run_dir if finished.summary else "",
                "exit_code": finished.exit_code,
                "finished_before": finished.again,
            }
        )
        for row, finished in zip(compared.trials, finished_trials, strict=True)
    ]
    where = {"page": str(page), "tracking_uri": comparison.shown_address, "run_id": comparison.run_id}
    compared = compared.model_copy(update={"trials": tuple(rows), **where})
    write_comparison_record(folder, compared)
    codes = {finished.exit_code for finished in finished_trials} - {0}
    return AllRuns(compared, str(page), str(folder), 3 if codes == {3} else 1 if codes else 0)


class _Running:
    """The processes at work, to be ended where the whole is interrupted."""

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[str]] = set()
        self._lock, self.stopped = threading.Lock(), False

    def start(self, command: list[str], answer: Path) -> subprocess.Popen[str] | None:
        with self._lock:
            if self.stopped:
                return None
            with open(answer, "w") as output:
                # A session of its own: a trial and the step it is at are ended together, and once.
                process = subprocess.Popen(
                    command,
                    stdout=output,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                    env={**os.environ, **variables_of_children()},
                )
            self._processes.add(process)
            return process

    def ended(self, process: subprocess.Popen[str]) -> None:
        with self._lock:
            self._processes.discard(process)

    def stop(self) -> None:
        with self._lock:
            self.stopped = True
            for process in self._processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT)


def _run_trial(
    trial: Trial,
    out: Path,
    folder: Path,
    comparison: Comparison,
    running: _Running,
    report: Callable[[str], None],
    options: Sequence[str],
) -> FinishedTrial:
    name = f"[{trial.mark}] {trial.category.name}, {trial.label}"
    try:
        record = out / FINISHED / f"{trial_key(trial.category)}.json"
    except VqiError as error:  # its photographs cannot even be listed
        report(printable(f"{name}: {error}"))
        return FinishedTrial(trial, None, str(error), error.exit_code)
    if done := _read_finished(record):
        report(f"{name}: finished before, in {done.run_dir}")
        if (results := _results(done)) and (run_id := results.run_id):
            # It may have been tracked elsewhere; what is compared is read from its folder.
            with contextlib.suppress(VqiError):
                comparison.adopt(run_id, trial.mark)
        return FinishedTrial(trial, done, again=True)
    values = trial.category.model_dump(mode="json")
    values["tracking"] |= {"uri": comparison.address, "comparison": f"{comparison.run_id}/{trial.mark}"}
    file = folder / f"{trial.mark}-{trial.category.name}.yaml"
    write_whole(file, json.dumps(values, indent=2))  # JSON is YAML
    answer = file.with_suffix(".json")
    process = running.start(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            RUN,
            "run",
            "--category",
            str(file),
            "--out",
            str(out),
            "--json",
            *options,
        ],
        answer,
    )
    if process is None:
        return FinishedTrial(trial, None, "it was not begun", 1)
    assert process.stderr is not None
    log = file.with_suffix(".log")
    with open(log, "w") as kept:
        for line in process.stderr:
            kept.write(line)
            if line.rstrip().endswith("...") or line.startswith("vqi: "):
                report(printable(f"{name}: {line.strip()}"))
    code = process.wait()
    running.ended(process)
    if code == 0 and (summary := _read_summary(answer)):
        write_json(record, summary.values())
        report(f"{name}: {summary.seconds.get('total', 0):.0f} s")
        return FinishedTrial(trial, summary)
    return FinishedTrial(
        trial,
        None,
        _read_error(answer) or f"its process ended with {code} before it could say why; its log is {log}",
        code if code in (2, 3) else 1,
    )


def _read_summary(file: Path) -> Summary | None:
    """The summary of a run; None where the file holds none."""
    try:
        return parse_part(Summary, json.loads(file.read_text()), str(file), "run it again")
    except (OSError, ValueError, BadInput):
        return None


def _read_error(answer: Path) -> str:
    """The sentence that a run which failed printed; "" where it printed none."""
    try:
        value = json.loads(answer.read_text())
    except ValueError:
        return ""
    return str(value.get("error") or "") if isinstance(value, dict) else ""


def trial_key(category: Category) -> str:
    """What a finished run is remembered by: its parameters, the code, and the names, sizes and times of its photographs
    and files.

    Contents are not read: that is ingest's work, and takes as long as it does there.
    """
    parameters = {key: value for key, value in category.parameters().items() if not key.startswith("tracking_")}
    files = [category.data.source, *category.method_paths.values()]
    if category.backbone.weights not in ("imagenet", "random"):
        files.append(category.backbone.weights)
    value = [parameters, code_version(), [_listing(location) for location in files]]
    return hashlib.sha256(canonical_json(value)).hexdigest()[:32]


def _listing(location: str) -> list[list[Any]]:
    if location.startswith("s3://"):
        store, address = ObjectStore.from_environment(), Address.parse(location)
        alone = store.find(address)
        return [[item.key, item.size, item.etag] for item in ([alone] if alone else store.objects(address))]
    root = Path(location).expanduser()
    if not root.exists():
        raise BadInput(f"{location!r} does not exist; name what is there, or an s3:// address.")
    files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]
    return [[str(path.relative_to(root)), (state := path.stat()).st_size, state.st_mtime_ns] for path in files]


def _read_finished(record: Path) -> Summary | None:
    """The summary of a run that is still there, whole, and that this version reads; else None."""
    summary = _read_summary(record)
    if summary is None or not (Path(summary.report).is_file() and (Path(summary.bundle) / SIDECAR).is_file()):
        return None
    try:
        return summary if _results(summary) else None
    except BadInput:
        return None


def _evaluation(summary: Summary) -> Path | None:
    report = read_step_report(Path(summary.run_dir) / "steps", "evaluate")
    folder = (report.outputs or {}).get("evaluation") if report else None
    return Path(folder) if folder and (Path(folder) / RESULTS).is_file() else None


def _results(summary: Summary) -> Results | None:
    folder = _evaluation(summary)
    return read_results(folder) if folder else None


def _trial_result(finished: FinishedTrial) -> TrialResult:
    trial = TrialResult(
        finished.trial.mark,
        finished.trial.category.name,
        finished.trial.category.method.name,
        finished.trial.label,
        reason=finished.error,
    )
    folder = _evaluation(finished.summary) if finished.summary else None
    if finished.summary is None or folder is None:
        return replace(trial, reason=finished.error or "its results are gone")
    results = read_results(folder)
    export = read_step_report(Path(finished.summary.run_dir) / "steps", "export")
    costs = export.facts.costs if export and export.facts else None
    return replace(
        trial,
        results=results,
        costs=Costs(
            latency_ms=costs.latency_ms if costs else None,
            bundle_mib=costs.bundle_mib if costs else None,
            seconds=sum(finished.summary.seconds[step] for step in ("train", "build_index", "evaluate")),
        ),
        examples=read_examples(folder),
        run_id=results.run_id,
    )


def _new_folder(out: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for attempt in range(100):
        folder = out / (f"comparison-{stamp}" + (f"-{attempt + 1}" if attempt else ""))
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise system_error(error) from error
    raise BadInput(f"--out {out} is not a folder that runs can be kept in; choose another.")
