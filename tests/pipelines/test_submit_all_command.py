"""`vqi submit-all` against a KFP API in this process."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from kfp_server import Kfp, serving
from vqi.category import Category
from vqi.steps.plan_trials.planning import mark_trials, plan
from vqi_pipelines.cluster.package import load_package
from vqi_pipelines.command import main
from vqi_pipelines.commands.submit_all import name_of


def submit_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kfp: Kfp, *arguments: str) -> int:
    (tmp_path / "catalog").mkdir(exist_ok=True)
    for name in ("cap", "nut"):
        (tmp_path / "catalog" / f"{name}.yaml").write_text(
            json.dumps({"data": {"source": f"s3://photos/{name}"}, "method": {"name": "padim"}})
        )
    monkeypatch.setenv("VQI_CATALOG", str(tmp_path / "catalog"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "no-kubeconfig"))
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "no-context.json"))
    monkeypatch.setattr(sys, "argv", ["vqi", "submit-all", "--host", kfp.host, "--no-preflight", *arguments])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_one_run_of_train_all_with_every_trial(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Kfp()) as kfp:
        assert (
            submit_all(
                monkeypatch,
                tmp_path,
                kfp,
                "--all",
                "--method",
                "padim",
                "--method",
                "patchcore",
                "--pool",
                "xeon",
                "--full",
                "--json",
            )
            == 0
        )
        (run,) = kfp.runs.values()
        (pipeline,) = kfp.pipelines.values()
    printed = capsys.readouterr()
    assert json.loads(printed.out)["run_id"] == run.run_id
    assert "4 trials" in printed.err
    assert pipeline.name == "train-all"
    values = run.runtime_config.parameters
    # Every parameter, so that the run can be cloned.
    assert set(values) == set(load_package("train_all").inputs)
    trials = plan(values["categories"], values["methods"], values["common"], values["pool"])
    assert [(trial.category.name, trial.label) for trial in trials] == [
        ("cap", "padim"),
        ("cap", "patchcore"),
        ("nut", "padim"),
        ("nut", "patchcore"),
    ]
    assert {trial.category.pool for trial in trials} == {"xeon"}


def test_a_comparison_of_many_is_named_after_two() -> None:
    trials = mark_trials([Category(name=name) for name in ("cap", "nut", "pin", "rod")])
    assert name_of(trials[:3]) == "cap-nut-pin"
    assert name_of(trials) == "cap-nut-and-2-more"


def test_trials_of_one_pool_are_compact_unless_asked_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "lid.yaml"
    other.write_text(json.dumps({"data": {"source": "s3://photos/lid"}, "pool": "gaudi"}))
    differing = ("--category", "cap", "--category", str(other))
    with serving(Kfp()) as kfp:
        assert submit_all(monkeypatch, tmp_path, kfp, "--all") == 0
        assert [pipeline.name for pipeline in kfp.pipelines.values()] == ["train-all-compact"]
        (run,) = kfp.runs.values()
        # Nothing of a trial that is the default: Argo's record holds all of it many times.
        assert json.loads(run.runtime_config.parameters["categories"]) == [
            {"data_source": f"s3://photos/{name}", "method_name": "padim", "name": name} for name in ("cap", "nut")
        ]
        requests = len(kfp.requests)
        assert submit_all(monkeypatch, tmp_path, kfp, *differing, "--compact") == 2
        assert len(kfp.requests) == requests
        assert "need different nodes (pool any and pool gaudi with habana.ai/gaudi)" in capsys.readouterr().err
        assert submit_all(monkeypatch, tmp_path, kfp, *differing) == 0
        assert [pipeline.name for pipeline in kfp.pipelines.values()] == ["train-all-compact", "train-all"]
    said = capsys.readouterr().err
    assert "Each step is a task of its own, as with --full: The trials" in said
    assert "all of a compact comparison run on the same.\n" in said


def test_a_compact_trial_does_not_wait_for_other_nodes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lid = tmp_path / "lid.yaml"
    trained = {"method": {"name": "stfpm"}, "train": {"nodes": 2, "checkpoints": "s3://photos/checkpoints"}}
    lid.write_text(json.dumps({"data": {"source": "s3://photos/lid"}, **trained}))
    with serving(Kfp()) as kfp:
        assert submit_all(monkeypatch, tmp_path, kfp, "--category", str(lid), "--compact") == 2
        assert not kfp.requests
        assert "train.nodes of lid is 2, and the task of a compact trial would hold" in capsys.readouterr().err
        assert submit_all(monkeypatch, tmp_path, kfp, "--category", str(lid)) == 0
        assert [pipeline.name for pipeline in kfp.pipelines.values()] == ["train-all"]


def test_a_comparison_says_that_it_promotes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Kfp()) as kfp:
        assert submit_all(monkeypatch, tmp_path, kfp, "--all", "--set", "promote.step=yes") == 0
    assert "a comparison promotes nothing, so promote.step of cap is left out" in capsys.readouterr().err


def test_a_package_of_the_other_form(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "package.yaml"
    package.write_text(load_package("train_all").text)
    with serving(Kfp()) as kfp:
        assert submit_all(monkeypatch, tmp_path, kfp, "--all", "--package", str(package)) == 2
        assert not kfp.requests
        assert "package.yaml is of train-all, and this starts train-all-compact." in capsys.readouterr().err
        assert submit_all(monkeypatch, tmp_path, kfp, "--all", "--full", "--package", str(package)) == 0


def test_a_slip_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Kfp()) as kfp:
        assert submit_all(monkeypatch, tmp_path, kfp, "--category", "cap", "--method", "padin") == 2
        assert not kfp.requests
    assert "Did you mean 'padim'?" in capsys.readouterr().err
