"""The steps of a run as KFP's API tells of them: a list of Argo's nodes, of which most are machinery."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp_server_api import V2beta1PipelineTaskDetail, V2beta1Run

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

    A task is the node beside a `-driver`; what runs in it is its child `executor`, which is skipped where the cache had the result.
    Nodes name their children by Argo's ids and themselves by their pods: the hash at the end is the same.
    """
    details = (run.run_details.task_details if run.run_details else None) or []
    nodes = {_hash(task.pod_name): task for task in details if task.pod_name}
    drivers = {_plain(task.display_name).removesuffix("-driver") for task in details if _plain(task.display_name).endswith("-driver")}
    found = []
    for task in details:
        name = _plain(task.display_name)
        if name not in drivers or name == "root" or name.endswith("-driver"):
            continue
        executors = _children(task, nodes)
        attempts = [attempt for executor in executors for attempt in _children(executor, nodes)]
        pods = tuple(node.pod_name for node in [*executors, *attempts])
        cached = bool(executors) and all(executor.state in ("SKIPPED", "OMITTED") for executor in executors) and task.state == "SUCCEEDED"
        found.append(Step(name, task.state or "PENDING", _past(task.start_time), _past(task.end_time), pods, cached))
    return sorted(found, key=lambda step: (step.started is None, step.started))


def _children(task: V2beta1PipelineTaskDetail, nodes: dict[str, V2beta1PipelineTaskDetail]) -> list[V2beta1PipelineTaskDetail]:
    """The nodes that run what a task is: its executor, or the attempts of that one."""
    found = (nodes.get(_hash(child.pod_name)) for child in task.child_tasks or [])
    return [child for child in found if child and _plain(child.display_name) == "executor"]


def _hash(name: str | None) -> str:
    return (name or "").rsplit("-", 1)[-1]


def _plain(name: str | None) -> str:
    """A node's name without the number of its attempt or iteration."""
    return re.sub(r"\(.*\)$", "", name or "")


def _past(when: datetime | None) -> datetime | None:
    """KFP writes the beginning of 1970 for what has not happened."""
    return when if when and when.year > 1970 else None
