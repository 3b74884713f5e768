"""`vqi run` as a user runs it: a process of its own, the real components through kfp.local."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vqi.dataset.generator import generate
from vqi.tracking.runs import tracking_client

METRICS = {"image_auroc", "pixel_auroc", "aupro", "balanced_accuracy"}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "parts"
    generate(folder, seed=1, normals=8, test_normals=3, defects_each=1, size=(128, 128))
    return folder


def vqi(*arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "VQI_CATALOG")
    } | variables
    command = [str(Path(sys.executable).parent / "vqi"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)


def settings(source: Path) -> list[str]:
    values = [
        f"data.source={source}",
        "backbone.name=filterbank",
        "image.size=[128, 128]",
        "method.settings.coreset_ratio=0.05",
    ]
    return [item for value in values for item in ("--set", value)]


@pytest.fixture(scope="module")
def finished(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, subprocess.CompletedProcess[str]]:
    done = vqi("run", "--category", "plate", *settings(parts), "--out", str(tmp_path_factory.mktemp("out")), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done


def test_json_is_one_object_with_all_that_was_promised(finished: tuple[dict, subprocess.CompletedProcess[str]]) -> None:
    summary, _ = finished
    assert set(summary["metrics"]) >= METRICS
    steps = {"configure", "ingest", "check_dataset", "train", "build_index", "evaluate", "export"}
    assert set(summary["seconds"]) == steps | {"total"}
    assert set(summary["peak_mib"]) == steps
    assert all(value > 0 for value in summary["peak_mib"].values())
    assert Path(summary["report"]).read_text().startswith("<!doctype html>")
    assert (Path(summary["bundle"]) / "bundle.json").is_file()
    page = Path(summary["report"]).read_text()
    assert all(f"<td>{name}</td>" in page for name in ("onnx", "openvino"))
    assert len(summary["fingerprint"]) == 64
    assert "no weights" in summary["weights"]["label"]
    assert Path(summary["run_dir"]).is_dir()


def test_progress_goes_to_standard_error(finished: tuple[dict, subprocess.CompletedProcess[str]]) -> None:
    _, done = finished
    for step in ("configure", "ingest", "check_dataset", "train", "build_index", "evaluate", "export"):
        assert f"{step} ..." in done.stderr
        assert done.stderr.count(f"  vqi {step}: ") == 1
    assert "Executor" not in done.stderr


def test_the_bundle_predicts(
    finished: tuple[dict, subprocess.CompletedProcess[str]], parts: Path, tmp_path: Path
) -> None:
    summary, _ = finished
    done = vqi("predict", summary["bundle"], str(parts / "test"), "--out", str(tmp_path / "predictions"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["images"] == len(list((parts / "test").rglob("*.png")))


@pytest.mark.slow
def test_a_second_run_scores_the_same_bit_for_bit_and_leaves_nothing_beside_its_folder(
    finished: tuple[dict, subprocess.CompletedProcess[str]], parts: Path, tmp_path: Path
) -> None:
    first, _ = finished
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = vqi(
        "run", "--category", "plate", *settings(parts), "--out", str(tmp_path / "new"), "--json", TMPDIR=str(temporary)
    )
    assert done.returncode == 0, done.stderr
    second = json.loads(done.stdout)
    assert second["fingerprint"] == first["fingerprint"]
    assert second["metrics"] == first["metrics"]
    assert second["threshold"] == first["threshold"]
    assert _scores(second) == _scores(first)
    # Two runs in one minute never share a folder.
    assert second["run_dir"] != first["run_dir"]
    assert list(temporary.iterdir()) == []


def test_mlflow_has_the_whole_report_and_the_figures_of_each_format(
    finished: tuple[dict, subprocess.CompletedProcess[str]],
) -> None:
    summary, _ = finished
    with tracking_client(summary["tracking_uri"]) as client:
        (run,) = client.search_runs([client.get_experiment_by_name("vqi").experiment_id])
        stored = Path(client.download_artifacts(run.info.run_id, "report.html"))
    assert stored.read_bytes() == Path(summary["report"]).read_bytes()
    assert run.data.metrics["format.openvino.latency_ms"] > 0
    assert run.data.metrics["format.onnx.differing_share"] == 0


def _scores(summary: dict) -> str:
    return next(Path(summary["run_dir"]).glob("artifacts/*/evaluate/evaluation/predictions.csv")).read_text()


def test_a_missing_folder(tmp_path: Path) -> None:
    done = vqi("run", "--category", "plate", *settings(tmp_path / "nowhere"), "--out", str(tmp_path / "out"), "--json")
    assert done.returncode == 2
    answer = json.loads(done.stdout)
    assert answer["exit_code"] == 2
    assert "nowhere" in answer["error"]
    assert "Traceback" not in done.stderr


def test_missing_files_of_a_method_are_reported_before_anything_runs(parts: Path, tmp_path: Path) -> None:
    method = ["--set", "method.name=draem", "--set", f"method.settings.textures={tmp_path / 'nowhere'}"]
    done = vqi("run", "--category", "plate", "--set", f"data.source={parts}", *method, "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "method.settings.textures is" in done.stderr
    assert "does not exist" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_corrupt_image_stops_the_run_with_its_name(parts: Path, tmp_path: Path) -> None:
    source = tmp_path / "parts"
    shutil.copytree(parts, source)
    intact = sorted((source / "train" / "good").iterdir())[0]
    victim = intact.with_name("a\x1b[2Jcleared\n.png")
    victim.write_bytes(intact.read_bytes()[:300])
    done = vqi("run", "--category", "plate", *settings(source), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    # Said once, and nothing in a name drives the terminal.
    assert "a\\x1b[2Jcleared\\n.png cannot be decoded" in done.stderr
    assert done.stderr.count("does not pass its check") == done.stderr.count("cannot be decoded") == 1
    assert "\x1b" not in done.stderr
    assert "Traceback" not in done.stderr
    # The page that shows why is there under a name that browsers open, and nothing after the check ran.
    (page,) = (tmp_path / "out").glob("*/dataset-check.html")
    assert done.stderr.count(str(page)) == 1
    assert done.stderr.endswith(f"The whole list is in {page}.\n")
    assert not list((tmp_path / "out").glob("*/artifacts/*/train"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "method.name=patchcor"], "Did you mean 'patchcore'?"),
        (["--set", "methd.name=patchcore"], "Did you mean 'method.name'?"),
        (["--set", "image.size=[4, 4]"], "between 32 and 16384"),
    ],
)
def test_bad_settings_cost_nothing(parts: Path, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    done = vqi("run", "--category", "plate", *settings(parts), *arguments, "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_help_answers_for_every_command() -> None:
    listed = vqi("--help").stdout
    for command in ("run", "predict", "check", "categories", "compile", "demo"):
        assert command in listed
        assert vqi(command, "--help").returncode == 0
