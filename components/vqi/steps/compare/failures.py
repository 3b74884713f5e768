"""Why a trial did not come to an end, from what its steps reported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from vqi.placement import memory_advice, shown_memory
from vqi.steps.reports import ClusterTask, StepReport

# The number of an attempt. An iteration of a loop is `(3:3)`.
_ATTEMPT = re.compile(r"\(\d+\)")


def trial_failures(
    reports: Iterable[StepReport], comparison: str, keys: Mapping[str, str] | None = None
) -> dict[str, str]:
    """A sentence without its full stop for every trial of the comparison `comparison` that reported anything, by the
    trial's mark: what its last step said, or what became of it. `keys` are the marks of trials that are known by a key.

    Some steps of a trial know which trial it is (configure, evaluate); the others stand beside them in Argo's DAG.
    """
    known = [(report, report.task) for report in reports if report.task]
    keys = keys or {}
    marks = {_dag(task): mark for _, task in known if (mark := _mark(task, comparison, keys)) and _dag(task)}
    trials: dict[str, list[StepReport]] = {}
    for report, task in sorted(known, key=lambda pair: pair[1].began):
        if mark := _mark(task, comparison, keys) or marks.get(_dag(task), ""):
            trials.setdefault(mark, []).append(report)
    return {mark: _sentence(its_reports) for mark, its_reports in trials.items()}


def _mark(task: ClusterTask, comparison: str, keys: Mapping[str, str]) -> str:
    run, _, mark = (task.comparison or "").partition("/")
    return mark if run == comparison else keys.get(run, "")


def _dag(task: ClusterTask) -> str:
    """The DAG that a task stands in: Argo's name of its node without the task itself and its executor."""
    return _ATTEMPT.sub("", task.node or "").rpartition(".")[0].rpartition(".")[0]


def _sentence(reports: Sequence[StepReport]) -> str:
    last = reports[-1]
    if last.state == "failed":
        return f"{last.step}: {(last.error or 'it does not say why').removesuffix('.')}"
    if last.state == "running":
        attempts = sum(report.step == last.step and report.state == "running" for report in reports)
        times = f" {attempts} times" if attempts > 1 else ""
        limit = shown_memory(last.task.memory_limit) if last.task and last.task.memory_limit else ""
        return (
            f"{last.step} was killed{times} before it could say why, as happens where memory runs out "
            f"({memory_advice(last.step, limit)})"
        )
    return (
        f"{last.step} did its work, and then what it made could not be stored, or the next step could not begin; "
        f"the end of its log says more"
    )
