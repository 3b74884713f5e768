"""`vqi run-all` as a user runs it: one trial that works, one whose photographs do not pass their check, and a second
start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vqi.dataset.generator import generate
from vqi.platform.errors import BadInput
from vqi_pipelines.run_all import trial_key
from vqi_pipelines.trials import catalog_trials, train_all_parameters

# A fixture that takes long is shared by most of them.
pytestmark = pytest.mark.slow

VQI = [sys.executable, "-W", "ignore", "-c", "from vqi_pipelines.command import main; main()"]


def vqi(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"} | {
        "VQI_CATALOG": str(folder / "catalog")
    }
    return subprocess.run(
        [*VQI, "run-all", *arguments], capture_output=True, text=True, cwd=folder, env=environment, timeout=900
    )


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of two categories, the second with a broken photograph."""
    folder = tmp_path_factory.mktemp("factory")
    (folder / "catalog").mkdir()
    for seed, name in enumerate(("cap", "nut")):
        generate(folder / name, seed=seed, normals=8, test_normals=3, defects_each=1, size=(96, 96))
        values = {
            "data": {"source": str(folder / name)},
            "backbone": {"name": "filterbank"},
            "image": {"size": [96, 96]},
            "method": {"name": "padim"},
        }
        (folder / "catalog" / f"{name}.yaml").write_text(json.dumps(values))
    victim = sorted((folder / "nut" / "train" / "good").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:200])
    return folder


@pytest.fixture(scope="module")
def first(factory: Path) -> subprocess.CompletedProcess[str]:
    return vqi(factory, "--all", "--json")


def test_the_failing_trial_is_listed_and_the_other_is_complete(
    first: subprocess.CompletedProcess[str], factory: Path
) -> None:
    assert first.returncode == 1, first.stderr
    summary = json.loads(first.stdout)
    cap, nut = summary["trials"]
    assert (cap["category"], cap["complete"], cap["exit_code"]) == ("cap", True, 0)
    assert set(cap["figures"]) >= {"image_auroc", "aupro", "latency_ms", "bundle_mib", "seconds"}
    assert min(cap["figures"]["latency_ms"], cap["figures"]["bundle_mib"], cap["figures"]["seconds"]) > 0
    assert (nut["complete"], nut["exit_code"]) == (False, 2)
    assert "cannot be decoded" in nut["reason"]
    assert summary["failed"] == 1
    assert "Traceback" not in first.stderr
    page = Path(summary["page"]).read_text()
    assert "1 of 2 runs are complete" in page
    assert page.count("data:image/webp;base64,") >= 2


def test_the_runs_hang_below_one_run_in_mlflow(first: subprocess.CompletedProcess[str], factory: Path) -> None:
    from mlflow.tracking import MlflowClient

    summary = json.loads(first.stdout)
    client = MlflowClient(tracking_uri=f"sqlite:///{factory / 'runs' / 'mlflow.db'}")
    trial = client.get_run(summary["trials"][0]["run_id"])
    assert trial.data.tags["mlflow.parentRunId"] == summary["run_id"]
    assert trial.data.metrics["latency_ms"] == summary["trials"][0]["figures"]["latency_ms"]
    assert client.get_run(summary["run_id"]).data.metrics["failed"] == 1


def test_started_again_what_is_finished_is_not_repeated(first: subprocess.CompletedProcess[str], factory: Path) -> None:
    before = json.loads(first.stdout)
    again = vqi(factory, "--all", "--json")
    assert again.returncode == 1, again.stderr
    summary = json.loads(again.stdout)
    assert [trial["finished_before"] for trial in summary["trials"]] == [True, False]
    assert summary["trials"][0]["run_dir"] == before["trials"][0]["run_dir"]
    assert summary["trials"][0]["figures"] == before["trials"][0]["figures"]
    assert len(list((factory / "runs").glob("cap-*"))) == 1


def test_compact_runs_are_compared_as_others_are(first: subprocess.CompletedProcess[str], factory: Path) -> None:
    shards = ("--set", "method.name=patchcore", "--set", "compute.shards=2")
    refused = vqi(factory, "--all", "--compact", *shards, "--out", "no")
    assert refused.returncode == 2
    assert "the compact form has one task for the index" in refused.stderr
    assert not (factory / "no").exists()
    done = vqi(factory, "--category", "cap", "--compact", "--out", "compact", "--json")
    assert done.returncode == 0, done.stderr
    (trial,) = json.loads(done.stdout)["trials"]
    (before, _) = json.loads(first.stdout)["trials"]
    assert (trial["complete"], trial["finished_before"]) == (True, False)
    assert trial["figures"]["image_auroc"] == before["figures"]["image_auroc"]
    assert list(Path(trial["run_dir"]).glob("artifacts/*/make-bundle"))


def test_a_finished_run_is_known_by_parameters_photographs_and_files(
    factory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQI_CATALOG", str(factory / "catalog"))

    def key(*overrides: str) -> str:
        (trial,) = catalog_trials(["cap"], False, [], overrides)
        return trial_key(trial.category)

    as_it_is = key()
    assert key() == as_it_is
    assert key("seed=1") != as_it_is
    assert key("tracking.experiment=other") == as_it_is
    photograph = sorted((factory / "cap" / "test" / "good").iterdir())[0]
    state = photograph.stat()
    os.utime(photograph, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    touched = key()
    assert touched != as_it_is
    os.utime(photograph, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert key() == as_it_is


def test_trials_are_categories_by_methods(factory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQI_CATALOG", str(factory / "catalog"))
    trials = catalog_trials([], True, ["padim", "patchcore"], ["method.settings.channels=20", "seed=3"])
    assert [(trial.category.name, trial.label) for trial in trials] == [
        ("cap", "padim"),
        ("cap", "patchcore"),
        ("nut", "padim"),
        ("nut", "patchcore"),
    ]
    # Settings go with the method they were written for.
    assert [trial.category.method.settings for trial in trials[:2]] == [{"channels": 20}, {}]
    assert {trial.category.seed for trial in trials} == {3}


def test_train_all_makes_the_same_trials_of_them(factory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vqi.steps.plan_trials.planning import plan

    monkeypatch.setenv("VQI_CATALOG", str(factory / "catalog"))
    trials = catalog_trials([], True, ["padim", "patchcore"], ["tracking.experiment=line-1"])
    parameters = train_all_parameters(trials)
    assert parameters["tracking_experiment"] == "line-1"
    planned = plan(parameters["categories"], parameters["methods"], parameters["common"])
    assert [trial.entry() for trial in planned] == [trial.entry() for trial in trials]


@pytest.mark.parametrize(
    ("names", "everything", "methods", "sentence"),
    [
        ([], False, [], "Name the categories"),
        (["cap"], True, [], "leave --category out"),
        (["cpa"], False, [], "no category 'cpa'"),
        (["cap"], False, ["padin"], "Did you mean 'padim'"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(
    factory: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    everything: bool,
    methods: list[str],
    sentence: str,
) -> None:
    monkeypatch.setenv("VQI_CATALOG", str(factory / "catalog"))
    with pytest.raises(BadInput) as refused:
        catalog_trials(names, everything, methods, [])
    assert sentence in str(refused.value)


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_interruption_ends_what_is_under_way(factory: Path, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"} | {
        "VQI_CATALOG": str(factory / "catalog")
    }
    command = [*VQI, "run-all", "--category", "cap", "--out", str(tmp_path / "runs")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=factory, env=environment) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "ingest ..." in line)
        # Children are listed by the thread that made them.
        (trial,) = "".join(
            children.read_text() for children in Path(f"/proc/{process.pid}/task").glob("*/children")
        ).split()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 130
    # The trial led a session of its own; nothing of it is left. A step that is ended with it may take a moment longer.
    deadline = time.monotonic() + 30
    while is_alive(int(trial)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(int(trial))
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("vqi").experiment_id])
    (comparison,) = [run for run in runs if run.info.run_name.startswith("run-all ")]
    assert comparison.info.status == "FAILED"
