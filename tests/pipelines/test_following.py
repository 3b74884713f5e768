"""Runs that KFP tells of incompletely."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import kfp_server_api as api
import pytest

from kfp_server import METRICS, launcher_log
from vqi_pipelines.cluster import following
from vqi_pipelines.cluster.following import STALE, follow, read_result
from vqi_pipelines.cluster.logs import Logs
from vqi_pipelines.cluster.steps import Step

WHEN = datetime(2026, 11, 21, 21, 27, tzinfo=UTC)


class _Logs:
    """The pods' logs, by step."""

    def __init__(self, **logs: str) -> None:
        self.logs = logs

    def of(self, run_id: str, step: Step) -> str:
        return self.logs.get(step.name, "")

    kubernetes, namespace = None, ""


def told(state: str, **states: str) -> api.V2beta1Run:
    tasks = [
        api.V2beta1PipelineTaskDetail(display_name=f"{name}{part}", state=each, start_time=WHEN)
        for name, each in states.items()
        for part in ("", "-driver")
    ]
    return api.V2beta1Run(
        run_id="abc", display_name="all", state=state, run_details=api.V2beta1RunDetails(task_details=tasks)
    )


def ended(run: api.V2beta1Run, logs: _Logs) -> Any:
    return read_result(cast(Any, SimpleNamespace(run_link=lambda run_id: "")), run, cast(Logs, logs))


def test_a_run_too_large_for_kfp_says_so_and_still_has_its_metrics() -> None:
    run = told("SUCCEEDED", **{"plan-trials": "SUCCEEDED", "evaluate": "SUCCEEDED", "train": "RUNNING"})
    found = ended(run, _Logs(compare=launcher_log(METRICS, "means"), evaluate=launcher_log({"image_auroc": 0.1})))
    assert found.note == STALE
    assert found.metrics == METRICS
    assert found.exit_code == 0


def test_a_run_that_kfp_knows_whole_has_no_note() -> None:
    found = ended(told("SUCCEEDED", ingest="SUCCEEDED", evaluate="SUCCEEDED"), _Logs(evaluate=launcher_log(METRICS)))
    assert found.note == ""
    assert found.metrics == METRICS


def followed(monkeypatch: pytest.MonkeyPatch, *runs: api.V2beta1Run) -> tuple[Any, list[str]]:
    """What following a run gives and says that is told as `runs`, one after the other and then always the last; a
    second passes with each."""
    monkeypatch.setattr(following, "EVERY_SECONDS", 0.0)
    seconds, answers, said = iter(range(1000)), [*runs], list[str]()
    server = SimpleNamespace(
        runs=SimpleNamespace(run_service_get_run=None),
        call=lambda call, run_id: answers.pop(0) if len(answers) > 1 else answers[0],
        run_link=lambda run_id: "",
    )
    return follow(cast(Any, server), "abc", cast(Logs, _Logs()), said.append, now=lambda: float(next(seconds))), said


def test_steps_whose_end_is_told_after_the_runs_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    late = told("SUCCEEDED", evaluate="SUCCEEDED", export="RUNNING")
    found, said = followed(monkeypatch, late, late, told("SUCCEEDED", evaluate="SUCCEEDED", export="SUCCEEDED"))
    assert found.note == ""
    assert said[-1] == "  export: succeeded"


def test_steps_whose_end_is_never_told_are_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    found, said = followed(monkeypatch, told("SUCCEEDED", evaluate="SUCCEEDED", export="RUNNING"))
    assert found.note == STALE
    assert said == ["  evaluate: succeeded", "  export: running"]
