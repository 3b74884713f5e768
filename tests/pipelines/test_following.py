"""Runs that KFP tells of incompletely."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import kfp_server_api as api

from kfp_server import METRICS, launcher_log
from vqi_pipelines.cluster.following import STALE, outcome
from vqi_pipelines.cluster.logs import Logs
from vqi_pipelines.cluster.steps import Step

WHEN = datetime(2026, 11, 21, 21, 27, tzinfo=UTC)


class _Logs:
    """The pods' logs, by step."""

    def __init__(self, **logs: str) -> None:
        self.logs = logs

    def of(self, run_id: str, step: Step) -> str:
        return self.logs.get(step.name, "")


def told(state: str, **states: str) -> api.V2beta1Run:
    tasks = [
        api.V2beta1PipelineTaskDetail(display_name=f"{name}{part}", state=each, start_time=WHEN)
        for name, each in states.items()
        for part in ("", "-driver")
    ]
    return api.V2beta1Run(run_id="abc", display_name="all", state=state, run_details=api.V2beta1RunDetails(task_details=tasks))


def ended(run: api.V2beta1Run, logs: _Logs) -> Any:
    return outcome(cast(Any, SimpleNamespace(run_link=lambda run_id: "")), run, cast(Logs, logs))


def test_a_run_too_large_for_kfp_says_so_and_still_has_its_metrics() -> None:
    run = told("SUCCEEDED", **{"plan-legs": "SUCCEEDED", "evaluate": "SUCCEEDED", "train": "RUNNING"})
    found = ended(run, _Logs(compare=launcher_log(METRICS, "means"), evaluate=launcher_log({"image_auroc": 0.1})))
    assert found.note == STALE
    assert found.metrics == METRICS
    assert found.exit_code == 0


def test_a_run_that_kfp_knows_whole_has_no_note() -> None:
    found = ended(told("SUCCEEDED", ingest="SUCCEEDED", evaluate="SUCCEEDED"), _Logs(evaluate=launcher_log(METRICS)))
    assert found.note == ""
    assert found.metrics == METRICS
