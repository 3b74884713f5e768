"""What steps say of themselves: into a folder, below a prefix of a store, or nowhere."""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path

import pytest

from s3_server import Server
from vqi.platform.errors import BadInput
from vqi.steps import reports
from vqi.steps.reports import Reporter, StepReport, read_run_reports, read_step_report
from vqi.steps.running import step
from vqi.storage.object_store import Address, ObjectStore

RUN, OTHER = "4f1844d7-e022-4c10-926a-13f77f9d5970", "0b41b13e-c872-417c-9795-0edd333ffe7c"
NODE = "train-all-x(0).root(0).for-loop-1(0).iteration-iterations(3:3)(0).train-category(0).{}(0).executor"


def executor(task: str, run: str = RUN, **parameters: object) -> list[str]:
    """The arguments that KFP 2.17's launcher starts a component with; an input may come from another run, by the
    cache."""
    cached = f"minio://mlpipeline/v2/artifacts/train-category/{OTHER}/ingest/{OTHER}/dataset"
    given = {
        "inputs": {"artifacts": {"dataset": {"artifacts": [{"uri": cached}]}}, "parameterValues": parameters},
        "outputs": {"outputFile": f"/minio/mlpipeline/v2/artifacts/p/{run}/{task}/{OTHER}/output_metadata.json"},
    }
    return ["/kfp/executor_main.py", "--executor_input", json.dumps(given), "--function_to_execute", task]


@pytest.fixture
def in_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_POD_NAME", "train-all-x-impl-1")
    monkeypatch.setenv("VQI_NODE", NODE.format("train"))
    monkeypatch.setattr(sys, "argv", executor("train", settings={"tracking": {"uri": "", "comparison": "abc/3"}}))


def test_the_run_the_node_and_the_trial_come_from_the_process_itself() -> None:
    environ = {"VQI_STEP_REPORTS": "s3://vqi/reports", "KFP_POD_NAME": "pod-1", "VQI_NODE": NODE.format("configure")}
    task = Reporter.of_process(executor("configure", tracking_comparison="abc/3"), environ).task
    assert task
    assert (task.run, task.pod, task.node, task.comparison) == (RUN, "pod-1", NODE.format("configure"), "abc/3")
    nameless = Reporter.of_process(executor("train", settings={}), {"VQI_STEP_REPORTS": "s3://vqi/reports"}).task
    assert nameless
    assert (nameless.node, nameless.comparison) == (None, None)
    assert nameless.pod


@pytest.mark.parametrize(
    "arguments",
    [["vqi", "run"], ["x", "--executor_input"], ["x", "--executor_input", "{"], ["x", "--executor_input", "[1]"],
     executor("train", run="local-run-1")],
)  # fmt: skip
def test_a_process_that_is_not_a_task_of_kfp_reports_nowhere(arguments: list[str]) -> None:
    assert Reporter.of_process(arguments, {"VQI_STEP_REPORTS": "s3://vqi/reports"}) == Reporter()


def test_a_local_report_holds_nothing_of_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_a_pod: None
) -> None:
    monkeypatch.setenv("VQI_STEP_REPORTS", str(tmp_path))
    with step("train"):
        assert read_step_report(tmp_path, "train") == StepReport(step="train", state="running")
    report = read_step_report(tmp_path, "train")
    assert report
    assert (report.state, report.task) == ("succeeded", None)


def test_a_step_reports_to_the_store_when_it_begins_and_how_it_ended(
    bucket: str, monkeypatch: pytest.MonkeyPatch, in_a_pod: None
) -> None:
    prefix = f"s3://{bucket}/reports/"
    monkeypatch.setenv("VQI_STEP_REPORTS", prefix)
    begun = []

    def fail() -> None:
        with step("train"):
            begun.extend(read_run_reports(prefix, RUN))
            raise BadInput("no photographs.")

    with pytest.raises(SystemExit):
        fail()
    monkeypatch.setenv("KFP_POD_NAME", "train-all-x-impl-2")
    with step("train") as record:
        record.facts["note"] = "x"
    store = ObjectStore.from_environment()
    store.write_text(Address(bucket, f"reports/{RUN}/damaged.json"), "{")

    failed, succeeded = read_run_reports(prefix, RUN)

    assert [(report.state, report.error) for report in begun] == [("running", None)]
    assert (failed.state, failed.error, failed.exit_code) == ("failed", "no photographs.", 2)
    assert failed.task
    assert (failed.task.run, failed.task.comparison, failed.task.pod) == (RUN, "abc/3", "train-all-x-impl-1")
    assert (succeeded.step, succeeded.state) == ("train", "succeeded")
    assert read_run_reports(prefix, OTHER) == []


def test_a_store_that_does_not_answer_neither_ends_a_step_nor_delays_it(
    s3: Server, monkeypatch: pytest.MonkeyPatch, in_a_pod: None, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reports, "PATIENCE", 0.3)
    monkeypatch.setenv("VQI_STEP_REPORTS", "s3://vqi/reports")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with step("train"):
            pass
        assert time.monotonic() - began < 3
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "no address")
    with step("train"):
        pass
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("vqi train: 0.") or line.startswith("vqi train: 1.") for line in lines)
