"""What each step says of itself: to a local run by a file in a folder, in a cluster by an object below a prefix, where
`compare` reads why a trial failed.

Nobody else tells in a cluster: MLflow knows a trial once it was evaluated, and an exit task learns no more than that
something failed. A report must never end a step or delay it: a store that does not answer at once is left alone.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from vqi.deployment.costs import BundleCosts
from vqi.platform.errors import VqiError
from vqi.platform.logs import logger
from vqi.platform.memory import memory_limit
from vqi.platform.records import FileRecord, PartialRecord, parse_record, read_record, write_record
from vqi.storage.object_store import PARALLEL, Address, ObjectStore

log = logger(__name__)

# A folder (a local run) or an s3:// prefix (a cluster).
REPORTS = "VQI_STEP_REPORTS"
# Argo's name of the node that the pod is (vqi_pipelines.task_placement).
NODE = "VQI_NODE"
POD = "KFP_POD_NAME"
# Seconds that the store is waited for.
PATIENCE = 3.0
# .../PIPELINE/RUN/TASK/..., below whatever pipeline root.
_RUN = re.compile(r"/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/[^/]+/")

State = Literal["running", "succeeded", "failed"]


class Facts(PartialRecord):
    """What a step says beside its artefacts. Others read what is named here; the rest is for people."""

    model_config = ConfigDict(extra="allow")
    left_out: ClassVar[frozenset[str]] = frozenset({"fingerprint", "checkpoints", "costs"})

    fingerprint: str | None = None
    checkpoints: str | None = None
    costs: BundleCosts | None = None


class ClusterTask(PartialRecord):
    """The task of a KFP run that a step is. `node` is Argo's name of it, such as
    `train-all-x.root.for-loop-1.iteration(0:0).train-category.train.executor(0)`; `comparison` is RUN/TRIAL where the
    step was given it; `memory_limit` are the bytes that its container may take; `began` is in UTC."""

    left_out: ClassVar[frozenset[str]] = frozenset({"node", "comparison", "memory_limit"})

    run: str
    pod: str
    began: str
    node: str | None = None
    comparison: str | None = None
    memory_limit: int | None = None


class StepReport(FileRecord):
    """What a step says of itself; `outputs` maps an output's name to where it lies. A step that is running has neither
    cost nor outputs; one that failed has no facts, but the `error` and the process's exit code. `task` is known in a
    cluster alone."""

    format_name: ClassVar[str] = "vqi-step/1"
    once_without_format: ClassVar[bool] = True
    remedy: ClassVar[str] = "run the category again"
    left_out: ClassVar[frozenset[str]] = frozenset(
        {"error", "exit_code", "seconds", "peak_mib", "outputs", "facts", "task"}
    )

    step: str
    state: State
    error: str | None = None
    exit_code: int | None = None
    seconds: float | None = None
    peak_mib: float | None = None
    outputs: dict[str, str] | None = None
    facts: Facts | None = None
    task: ClusterTask | None = None


@dataclass(frozen=True)
class Reporter:
    """Where this process reports to: `folder`, or `prefix` as `task`, or nowhere."""

    folder: Path | None = None
    prefix: str = ""
    task: ClusterTask | None = None

    @staticmethod
    def of_process(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> Reporter:
        """What the environment names. In a cluster the run is read from the step's own `arguments`: an input for it
        would be a part of every cache key."""
        where = environ.get(REPORTS, "")
        if not where.startswith("s3://"):
            return Reporter(folder=Path(where)) if where else Reporter()
        task = _task(sys.argv if arguments is None else arguments, environ)
        return Reporter(prefix=where, task=task) if task else Reporter()

    def write(self, report: StepReport) -> None:
        """Raises OSError where a folder cannot be written; a store that does not take it is passed over."""
        if self.folder:
            write_record(self.folder / f"{report.step}.json", report)
        elif self.task:
            self._store(report.model_copy(update={"task": self.task}), self.task)

    def _store(self, report: StepReport, task: ClusterTask) -> None:
        try:
            address = Address.parse(f"{self.prefix.rstrip('/')}/{task.run}/{report.step}-{task.pod}.json")
            store = ObjectStore.from_environment(patience=PATIENCE)
            store.write_text(address, json.dumps(report.values()), attempts=1)
        except Exception as error:  # whatever it is: the step's own work is what counts
            log.debug(f"The report of {report.step} was not stored ({type(error).__name__}: {error})")


def read_step_report(folder: Path, step: str) -> StepReport | None:
    """What a step said of itself into `folder`; None where it has not begun. Raises BadInput for a damaged file."""
    path = Path(folder) / f"{step}.json"
    return read_record(StepReport, path) if path.is_file() else None


def read_run_reports(prefix: str, run: str) -> list[StepReport]:
    """What the steps of a KFP run said of themselves below `prefix`, in the order in which they began; those that
    cannot be read are left out. Raises BadInput or RunFailed where the store cannot be listed."""
    address = Address.parse(f"{prefix.rstrip('/')}/{run}")
    store = ObjectStore.from_environment()

    def read(key: str) -> StepReport | None:
        with suppress(VqiError):
            return parse_record(StepReport, store.read_text(Address(address.bucket, key)), key)
        return None

    with ThreadPoolExecutor(PARALLEL) as pool:
        reports = [report for report in pool.map(read, [item.key for item in store.objects(address)]) if report]
    return sorted(reports, key=lambda report: report.task.began if report.task else "")


def _task(arguments: Sequence[str], environ: Mapping[str, str]) -> ClusterTask | None:
    """The task that KFP's executor was started for; None where its arguments do not name a run."""
    try:
        executor_input: dict[str, Any] = json.loads(arguments[list(arguments).index("--executor_input") + 1])
        run = _RUN.search(executor_input["outputs"]["outputFile"])
        parameters: dict[str, Any] = executor_input.get("inputs", {}).get("parameterValues") or {}
    except (ValueError, IndexError, KeyError, TypeError, AttributeError):
        return None
    if run is None:
        return None
    settings = parameters.get("settings")
    tracking = settings.get("tracking") if isinstance(settings, dict) else None
    comparison = parameters.get("tracking_comparison") or (
        tracking.get("comparison") if isinstance(tracking, dict) else None
    )
    began = datetime.now(UTC).isoformat(timespec="milliseconds")
    return ClusterTask(
        run=run[1],
        pod=environ.get(POD) or f"{os.getpid()}-{began[11:23].replace(':', '')}",
        began=began,
        node=environ.get(NODE) or None,
        comparison=comparison if isinstance(comparison, str) and comparison else None,
        memory_limit=memory_limit() or None,
    )
