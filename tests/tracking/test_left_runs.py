"""MLflow runs by which a person tells one KFP run from another, and those that nobody finished."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from vqi.storage.copying import copy_command
from vqi.tracking import left_runs
from vqi.tracking.comparisons import Comparison
from vqi.tracking.origins import kfp_run_of, origin_tags, run_title
from vqi.tracking.runs import open_run, run_page, runs_page, track_run

RUN, OTHER = "60dbdc5d-a28f-44b1-838b-298628487fa3", "11111111-a28f-44b1-838b-298628487fa3"


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def started(uri: str, kfp_run: str = RUN, training: str = "") -> str:
    run = open_run(uri, "bolts", "bolt stfpm", origin_tags(kfp_run), training)
    assert run is not None
    return run.run_id


def status(uri: str, run_id: str) -> Any:
    return MlflowClient(tracking_uri=uri).get_run(run_id).info.status


def tracked(uri: str, run_id: str = "", name: str = "bolt stfpm 2") -> str | None:
    return track_run(
        uri=uri, experiment="bolts", run_name=name, parameters={}, metrics={}, tags={}, artifacts=[], run_id=run_id
    )


def test_a_run_is_known_by_the_address_of_an_artefact() -> None:
    pod = f"minio://mlpipeline/v2/artifacts/train-category/{RUN}/export/6ed08a04-fa24-4967-9e5c-25de97f6c19f/bundle"
    assert kfp_run_of(pod) == RUN
    assert kfp_run_of(f"s3://store/{OTHER}/team/train-all/{RUN}/export/bundle") == RUN
    assert kfp_run_of("/runs/artifacts/train-category-2026-11-28/export/bundle") == ""
    assert copy_command(f"{pod}?region=x", "bundle") == f"aws s3 cp --recursive s3://{pod[8:]} bundle"
    assert copy_command("/runs/bundle", "bundle") == ""


def test_names_and_tags_tell_runs_of_one_category_apart() -> None:
    now = datetime(2026, 11, 28, 22, 53, tzinfo=UTC)
    assert run_title("bolt", "stfpm", RUN, now) == "bolt stfpm 2026-11-28 22:53 60dbdc5d"
    assert run_title("bolt", "stfpm", "", now) == "bolt stfpm 2026-11-28 22:53"
    assert origin_tags("", {"VQI_KFP_UI": "http://kfp"}) == {}
    assert origin_tags(RUN, {}) == {"vqi.kfp_run": RUN}
    link = f"https://kfp.example/pipeline/#/runs/details/{RUN}"
    for ui in ("https://kfp.example/pipeline", "https://kfp.example/pipeline/#/"):
        assert origin_tags(RUN, {"VQI_KFP_UI": ui}) == {"vqi.kfp_run": RUN, "vqi.kfp_link": link}


def test_pages_are_those_that_mlflow_3_opens_on_runs(uri: str) -> None:
    assert runs_page("https://user:secret@mlflow/base/", "1") == "https://mlflow/base/#/experiments/1/runs"
    assert run_page(uri, "abc") == run_page("http://127.0.0.1:9", "") == ""


def test_the_next_start_of_a_training_ends_what_it_left(uri: str) -> None:
    left, other = started(uri, training="a"), started(uri, training="b")
    again = started(uri, OTHER, training="a")
    assert [status(uri, run) for run in (left, other, again)] == ["KILLED", "RUNNING", "RUNNING"]
    # Where it went on all the same, evaluate completes it.
    assert tracked(uri, left) == left
    run = MlflowClient(tracking_uri=uri).get_run(left)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "bolt stfpm 2")


def test_a_comparison_ends_what_is_left_of_its_trials(uri: str) -> None:
    first = Comparison.begin(uri, "bolts", "train-all", RUN)
    comparison = Comparison.begin(uri, "bolts", "train-all", RUN)
    left, other = started(uri), started(uri, OTHER)
    comparison.end_left_runs(RUN)
    runs = (first.run_id, comparison.run_id, left, other)
    assert [status(uri, run) for run in runs] == ["KILLED", "RUNNING", "KILLED", "RUNNING"]
    tags = MlflowClient(tracking_uri=uri).get_run(comparison.run_id).data.tags
    assert tags["vqi.kfp_run"] == tags["vqi.comparison"] == RUN
    local = Comparison.begin(uri, "bolts", "run-all", "comparison-1")
    local.end_left_runs("comparison-1")
    assert status(uri, other) == "RUNNING"


def test_a_terminated_run_leaves_nothing_running_in_any_experiment(uri: str) -> None:
    left, other, done = started(uri), started(uri, OTHER), tracked(uri, started(uri))
    elsewhere = open_run(uri, "nuts", "nut stfpm", origin_tags(RUN), "")
    assert elsewhere is not None
    assert done is not None
    assert left_runs.end_terminated(MlflowClient(tracking_uri=uri), RUN) == 2
    states = [status(uri, run) for run in (left, elsewhere.run_id, other, done)]
    assert states == ["KILLED", "KILLED", "RUNNING", "FINISHED"]


def test_a_later_run_ends_those_from_which_nothing_came(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    silent, alone = started(uri), started(uri, "")
    working = started(uri, OTHER)
    assert tracked(uri)
    assert [status(uri, run) for run in (silent, alone, working)] == ["RUNNING"] * 3
    client = MlflowClient(tracking_uri=uri)
    hours = 7 * 3600
    client.log_metric(working, "train.loss", 0.5, timestamp=round((time.time() + hours) * 1000))
    monkeypatch.setattr(left_runs.time, "time", lambda now=time.time: now() + hours)
    left_runs.end_silent(client, client.get_run(silent).info.experiment_id)
    # A run that is not KFP's says of itself when it is over.
    assert [status(uri, run) for run in (silent, alone, working)] == ["KILLED", "RUNNING", "RUNNING"]
