"""Runs that KFP reports incompletely."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import kfp_server_api as api
import pytest
import typer

from kfp_server import METRICS, launcher_log
from vqi_pipelines.cluster import following, logs
from vqi_pipelines.cluster.following import STALE, RunResult, follow, read_result
from vqi_pipelines.cluster.kubernetes_access import Pod
from vqi_pipelines.cluster.logs import SUBMIT_AGAIN, Logs
from vqi_pipelines.cluster.steps import Step, steps_of
from vqi_pipelines.commands.submit import finish, port_forward

WHEN = datetime(2026, 11, 21, 21, 27, tzinfo=UTC)


class _Logs:
    """The pods' logs, by step."""

    def __init__(self, *pods: Pod, **logs: str) -> None:
        self.logs, self.its_pods = logs, list(pods)

    def of(self, run_id: str, step: Step) -> str:
        return self.logs.get(step.name, "")

    def pods(self, run_id: str) -> list[Pod]:
        return self.its_pods

    def of_pod(self, pod: Pod) -> str:
        return self.logs.get(pod.name, "")

    kubernetes, namespace = None, ""


def make_run(state: str, **states: str) -> api.V2beta1Run:
    tasks = [
        api.V2beta1PipelineTaskDetail(display_name=f"{name}{part}", state=each, start_time=WHEN)
        for name, each in states.items()
        for part in ("", "-driver")
    ]
    return api.V2beta1Run(
        run_id="abc", display_name="all", state=state, run_details=api.V2beta1RunDetails(task_details=tasks)
    )


def read_run_result(run: api.V2beta1Run, logs: _Logs) -> Any:
    return read_result(cast(Any, SimpleNamespace(run_link=lambda run_id: "")), run, cast(Logs, logs))


def test_a_run_too_large_for_kfp_has_a_note_and_still_its_metrics() -> None:
    run = make_run("SUCCEEDED", **{"plan-trials": "SUCCEEDED", "evaluate": "SUCCEEDED", "train": "RUNNING"})
    result = read_run_result(
        run, _Logs(compare=launcher_log(METRICS, "method_means"), evaluate=launcher_log({"image_auroc": 0.1}))
    )
    assert result.note == STALE
    assert result.metrics == METRICS
    assert result.exit_code == 0


def test_where_pods_are_in_sight_they_say_what_the_record_does_not() -> None:
    states = {"plan-trials": "SUCCEEDED", "iteration-item": "RUNNING", "train": "RUNNING"}
    pods = [
        Pod("a", "train", "Failed", "", "", node="x.iteration-iterations(0:0).train.executor"),
        Pod("b", "train", "Succeeded", "", "", node="x.iteration-iterations(0:0).train.executor"),
        Pod("c", "train", "Failed", "", "", node="x.iteration-iterations(1:1).train.executor", exit_code=137),
        Pod("d", "compare", "Succeeded", "", "", node="x.compare.executor"),
        Pod("e", "", "Running", "", "", node="x.train-driver"),
    ]
    logs = _Logs(*pods, compare=launcher_log(METRICS, "means"))
    result = read_run_result(make_run("FAILED", **states), logs)
    assert result.steps == {"plan-trials": "succeeded", "train": "1 failed, 1 succeeded", "compare": "succeeded"}
    assert (result.note, result.metrics) == ("", METRICS)
    assert result.error.startswith("train (trial 2) was killed (exit status 137)")


def test_where_no_step_failed_a_driver_of_kfp_s_says_why() -> None:
    """As KFP 2.17 ended a run of shards whose first driver was deleted when its work was done."""
    line = (
        'F1129 01:32:51.399929 15 main.go:127] KFP driver: driver.Container(taskName="merge-parts") failed: failed to '
        "resolve inputs: failed to get executions in DAG(executionID=66): two tasks have the same task name "
        '"index-part_66_idx_0", id1=69 id2=72\n'
    )
    pods = [
        Pod("a", "index-part", "Succeeded", "", "", node="x.root.for-loop-1.index-part.executor"),
        Pod("b", "", "Succeeded", "", "", node="x.root.train-driver"),
        Pod("c", "", "Failed", "", "", node="x.root.merge-parts-driver"),
    ]
    result = read_run_result(make_run("FAILED", train="SUCCEEDED"), _Logs(*pods, c=line))
    assert result.error == (
        "KFP's own driver of merge-parts failed, before the step began: failed to get executions in "
        'DAG(executionID=66): two tasks have the same task name "index-part_66_idx_0", id1=69 id2=72. A driver was '
        "lost after its work; submit again, what is done comes from the cache."
    )


@pytest.mark.parametrize(("remedy", "advised"), [(f" A driver was lost; {SUBMIT_AGAIN}.", False), ("", True)])
def test_a_retry_is_advised_only_where_it_helps(remedy: str, advised: bool, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(typer.Exit), caplog.at_level("INFO"):
        finish(RunResult("r", "n", "FAILED", "", error=f"It failed.{remedy}", exit_code=1), False)
    assert "`vqi logs r STEP` shows a step's log" in caplog.text
    assert ("vqi retry r" in caplog.text) == advised


def test_of_the_tasks_of_an_index_the_shard_is_named() -> None:
    node = "x.root.for-loop-1.iteration-iterations(2:2).iteration-item.index-part.executor"
    pod = Pod("a", "index-part", "Failed", "", "", node=node, reason="OOMKilled", memory="4Gi")
    result = read_run_result(make_run("FAILED", train="SUCCEEDED"), _Logs(pod))
    assert result.error == (
        "index-part (shard 3) ran out of memory and was killed (OOMKilled): its limit is 4Gi; "
        "resources.build_index.memory of the category raises it."
    )


def test_a_run_that_kfp_knows_whole_has_no_note() -> None:
    result = read_run_result(
        make_run("SUCCEEDED", ingest="SUCCEEDED", evaluate="SUCCEEDED"), _Logs(evaluate=launcher_log(METRICS))
    )
    assert result.note == ""
    assert result.metrics == METRICS


def test_loops_and_handlers_of_kfp_are_not_steps() -> None:
    names = ("exit-handler-1", "for-loop-2", "iteration-item", "train-category", "train")
    assert [step.name for step in steps_of(make_run("RUNNING", **dict.fromkeys(names, "RUNNING")))] == [
        "train-category",
        "train",
    ]


def test_steps_of_a_terminated_run_neither_failed_nor_go_on() -> None:
    run = make_run("FAILED", ingest="SUCCEEDED", train="FAILED", evaluate="RUNNING")
    states = ("PENDING", "RUNNING", "CANCELING", "FAILED")
    run.state_history = [api.V2beta1RuntimeStatus(state=state) for state in states]
    result = read_run_result(run, _Logs(train="Error: exit status 143"))
    assert (result.state, result.error, result.exit_code) == ("CANCELED", "The run abc was terminated.", 1)
    assert result.steps == {"ingest": "succeeded", "train": "canceled", "evaluate": "canceled"}
    assert result.note == ""
    # One that was retried after that, and failed by itself.
    run.state_history += [api.V2beta1RuntimeStatus(state=state) for state in ("RUNNING", "FAILED")]
    assert read_run_result(run, _Logs(train="Error: exit status 1")).state == "FAILED"


def follow_runs(monkeypatch: pytest.MonkeyPatch, *runs: api.V2beta1Run) -> tuple[Any, list[str]]:
    """Follow a run that KFP reports as `runs`, one after the other and then always the last; a second passes with each.
    Returns its result and the lines reported."""
    monkeypatch.setattr(following, "EVERY_SECONDS", 0.0)
    seconds, answers, lines = iter(range(1000)), [*runs], list[str]()
    server = SimpleNamespace(
        runs=SimpleNamespace(run_service_get_run=None),
        call=lambda call, run_id: answers.pop(0) if len(answers) > 1 else answers[0],
        run_link=lambda run_id: "",
    )
    return follow(cast(Any, server), "abc", cast(Logs, _Logs()), lines.append, now=lambda: float(next(seconds))), lines


def test_steps_whose_end_is_reported_after_the_runs_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    late = make_run("SUCCEEDED", evaluate="SUCCEEDED", export="RUNNING")
    result, lines = follow_runs(
        monkeypatch, late, late, make_run("SUCCEEDED", evaluate="SUCCEEDED", export="SUCCEEDED")
    )
    assert result.note == ""
    assert lines[-1] == "  export: succeeded"


def test_steps_whose_end_is_never_reported_are_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    result, lines = follow_runs(monkeypatch, make_run("SUCCEEDED", evaluate="SUCCEEDED", export="RUNNING"))
    assert result.note == STALE
    assert lines == ["  evaluate: succeeded", "  export: running"]


def test_the_page_in_mlflow_is_told_and_how_a_pod_s_address_opens_here() -> None:
    page = "http://mlflow:5000/#/experiments/1/runs/abc"
    log = launcher_log({"image_auroc": 0.9, "mlflow": page})
    assert logs.tracking_page(log) == page
    assert logs.metrics(log) == {"image_auroc": 0.9}
    assert logs.tracking_page(launcher_log({"image_auroc": 0.9})) == logs.tracking_page("") == ""
    assert port_forward(page) == (
        "MLflow's address opens in pods alone: run `kubectl -n NAMESPACE port-forward service/mlflow 5000` and open "
        "http://localhost:5000/#/experiments/1/runs/abc"
    )
    assert "-n vqi port-forward service/mlflow 8080:80` and open http://localhost:8080" in port_forward(
        "http://mlflow.vqi.svc.cluster.local (experiment vqi)"
    )
    for address in ("https://mlflow.example.com", "http://192.0.2.1:5000 (experiment vqi)", "http://localhost:5000"):
        assert port_forward(address) == ""


def test_metrics_of_earlier_versions_are_read() -> None:
    assert logs.metrics(launcher_log({"image_auroc": 0.9}, "metrics")) == {"image_auroc": 0.9}
    assert logs.metrics(launcher_log({"padim/aupro": 0.5}, "means")) == {"padim/aupro": 0.5}
