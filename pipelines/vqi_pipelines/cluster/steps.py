"""The steps of a run from KFP's API, which lists Argo's nodes: most of them are machinery."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp_server_api import V2beta1PipelineTaskDetail, V2beta1Run

ATTEMPT = re.compile(r"\(\d+\)$")
# What KFP makes of a DAG, a loop and an exit handler.
MACHINERY = re.compile(r"root|exit-handler-\d+|for-loop-\d+|iteration-item")
TEMPLATES = ("system-container-impl", "retry-system-container-impl")
OVER = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")


@dataclass(frozen=True)
class Step:
    """One task of a run; the iterations of a loop are steps of the same name."""

    name: str
    state: str
    started: datetime | None
    ended: datetime | None
    pods: tuple[str, ...]
    cached: bool = False

    @property
    def seconds(self) -> float | None:
        if not self.started or not self.ended or self.ended < self.started:
            return None
        return (self.ended - self.started).total_seconds()


def steps_of(run: V2beta1Run) -> list[Step]:
    """The steps that have begun, in the order they began.

    A task is the node beside a `-driver`; what runs in it is an `executor`, which is skipped where the cache had the
    result. KFP 2.17 reports no node's own id, so the second in which an executor began identifies it. Where Argo
    retries, each node has attempts, `train(0)`, beside it.
    """
    details = (run.run_details.task_details if run.run_details else None) or []
    nodes = [task for task in details if task.display_name and task.state and not ATTEMPT.search(task.display_name)]
    drivers = {task.display_name.removesuffix("-driver") for task in nodes if task.display_name.endswith("-driver")}
    steps = []
    for task in nodes:
        if task.display_name not in drivers or MACHINERY.fullmatch(task.display_name):
            continue
        # Of trials that run at once two may begin in one second: how they ended tells them apart.
        executors = [
            node
            for node in nodes
            if node.display_name == "executor"
            and node.start_time == task.start_time
            and (node.state == "FAILED") == (task.state == "FAILED")
        ]
        pods = tuple(pod for executor in executors for pod in _pods(executor))
        cached = (
            bool(executors)
            and all(executor.state in ("SKIPPED", "OMITTED") for executor in executors)
            and task.state == "SUCCEEDED"
        )
        steps.append(Step(task.display_name, task.state, _past(task.start_time), _past(task.end_time), pods, cached))
    return sorted(steps, key=lambda step: (step.started is None, step.started))


def state_of(run: V2beta1Run) -> str:
    """The state of a run, "PENDING" where it has none yet. KFP 2.17 ends a terminated run FAILED, and only the history
    of its states tells it from one that failed."""
    state = run.state or "PENDING"
    before = [entry.state for entry in run.state_history or [] if entry.state and entry.state != state]
    return "CANCELED" if state == "FAILED" and before and before[-1] == "CANCELING" else state


def _pods(executor: V2beta1PipelineTaskDetail) -> list[str]:
    """What the pods of an executor may be named: an attempt's id is the workflow's name and a hash, its pod has the
    template's name between them."""
    attempts = [child.pod_name.rpartition("-") for child in executor.child_tasks or [] if child.pod_name]
    own = [executor.pod_name] if executor.pod_name else []
    return own + [f"{workflow}-{template}-{number}" for workflow, _, number in attempts for template in TEMPLATES]


def _past(when: datetime | None) -> datetime | None:
    """KFP writes the beginning of 1970 for what has not happened."""
    return when if when and when.year > 1970 else None
