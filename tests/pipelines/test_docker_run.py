"""`vqi run --runner docker`: the step images on a real Docker engine, where one answers and has them
(images/README.md)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vqi.category import Category
from vqi.dataset.generator import generate
from vqi.platform.errors import BadInput
from vqi_pipelines.docker_runner import check_engine, docker_runner
from vqi_pipelines.local_run import STEPS

if TYPE_CHECKING:
    from s3_server import Server

DEFAULTS = Category().parameters()


@pytest.fixture(scope="module")
def engine() -> None:
    try:
        check_engine(STEPS)
    except BadInput as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "parts"
    generate(folder, seed=1, normals=8, test_normals=3, defects_each=1, size=(128, 128))
    return folder


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment that names no store, no server and no certificate, and caches that are the test's own."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "MINIO_", "MLFLOW_", "SSL_CERT", "VQI_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("VQI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return monkeypatch


def vqi_run(source: Path | str, out: Path, runner: str, **environment: str) -> subprocess.CompletedProcess[str]:
    values = [
        f"data.source={source}",
        "backbone.name=filterbank",
        "image.size=[128, 128]",
        "data.calibration_fraction=0.3",
    ]
    command = [
        str(Path(sys.executable).parent / "vqi"),
        "run",
        "--category",
        "plate",
        "--out",
        str(out),
        "--runner",
        runner,
        "--json",
    ]
    command += [item for value in values for item in ("--set", value)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, env={**os.environ, **environment})


@pytest.mark.slow
@pytest.mark.usefixtures("engine", "environment")
def test_containers_find_what_processes_find(parts: Path, tmp_path: Path) -> None:
    summaries = []
    for runner in ("docker", "subprocess"):
        done = vqi_run(parts, tmp_path / runner, runner)
        assert done.returncode == 0, done.stderr
        summaries.append(json.loads(done.stdout))
    contained, local = summaries
    assert set(contained["seconds"]) == {*STEPS, "total"}
    assert all(peak > 0 for peak in contained["peak_mib"].values())
    assert contained["fingerprint"] == local["fingerprint"]
    assert contained["metrics"]["image_auroc"] == pytest.approx(local["metrics"]["image_auroc"], abs=1e-6)
    assert contained["metrics"]["aupro"] == pytest.approx(local["metrics"]["aupro"], abs=1e-3)
    assert Path(contained["report"]).read_text().startswith("<!doctype html>")
    # What containers wrote belongs to the person who ran them, and the run is tracked beside the runs.
    written = [path for path in Path(contained["run_dir"]).rglob("*") if path.is_file()]
    assert {path.stat().st_uid for path in written} == {os.getuid()}
    assert (tmp_path / "docker" / "mlflow.db").stat().st_size > 0


@pytest.mark.usefixtures("engine", "environment")
def test_a_step_that_fails_in_a_container_reports_why(parts: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = vqi_run(empty, tmp_path / "out", "docker")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"].startswith("ingest: The source has no images")
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("engine", "environment")
def test_a_store_on_the_same_machine_answers(s3: Server, tmp_path: Path) -> None:
    done = vqi_run("s3://nobody-made-this/parts", tmp_path / "out", "docker")
    assert done.returncode == 2
    # The sentence for a store that answered: there is no such bucket.
    assert "nobody-made-this" in json.loads(done.stdout)["error"]
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("engine", "environment")
def test_an_image_that_does_not_exist(parts: Path, tmp_path: Path) -> None:
    done = vqi_run(parts, tmp_path / "out", "docker", VQI_IMAGE_TAG="never-built")
    assert done.returncode == 2
    assert "vqi/ingest:never-built" in done.stderr
    assert "make images" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("environment")
def test_no_engine(parts: Path, tmp_path: Path) -> None:
    done = vqi_run(parts, tmp_path / "out", "docker", DOCKER_HOST=f"unix://{tmp_path}/nobody.sock")
    assert done.returncode == 2
    assert "No Docker engine answers" in json.loads(done.stdout)["error"]
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_a_container_gets(environment: pytest.MonkeyPatch, parts: Path, tmp_path: Path) -> None:
    certificate = tmp_path / "ca.crt"
    certificate.write_text("certificate")
    environment.setenv("AWS_CA_BUNDLE", str(certificate))
    environment.setenv("AWS_ACCESS_KEY_ID", "a key")
    environment.setenv("UNRELATED", "a secret")
    run_dir = tmp_path / "out" / "run"
    textures = tmp_path / "textures"
    textures.mkdir()
    parameters = DEFAULTS | {
        "data_source": str(parts),
        "method_name": "draem",
        "method_settings": json.dumps({"textures": str(textures)}),
        "train_checkpoints": str(tmp_path / "checkpoints"),
        "tracking_uri": f"sqlite:///{tmp_path}/tracking/mlflow.db",
    }
    arguments = docker_runner(parameters, run_dir, {"VQI_STEP_REPORTS": str(run_dir / "steps")}).container_run_args
    seen = {mount["Target"]: mount["ReadOnly"] for mount in arguments["mounts"]}
    assert {path for path, read_only in seen.items() if read_only} == {str(parts), str(certificate), str(textures)}
    assert {path for path, read_only in seen.items() if not read_only} == {
        str(run_dir),
        *(str(tmp_path / name) for name in ("checkpoints", "tracking", "cache", "torch")),
    }
    assert arguments["environment"]["AWS_ACCESS_KEY_ID"] == "a key"
    assert arguments["environment"]["VQI_STEP_REPORTS"] == str(run_dir / "steps")
    assert "UNRELATED" not in arguments["environment"]
    assert arguments["read_only"]
    assert arguments["cap_drop"] == ["ALL"]
    assert "network_mode" not in arguments


@pytest.mark.parametrize("address", ["http://127.0.0.1:9000", "https://user:word@localhost:5000/x"])
def test_a_server_on_the_same_machine_is_reached(environment: pytest.MonkeyPatch, tmp_path: Path, address: str) -> None:
    parameters = DEFAULTS | {"data_source": "s3://bucket/parts", "tracking_uri": address}
    assert docker_runner(parameters, tmp_path, {}).container_run_args["network_mode"] == "host"
    environment.setenv("AWS_ENDPOINT_URL_S3", address)
    assert docker_runner({**parameters, "tracking_uri": ""}, tmp_path, {}).container_run_args["network_mode"] == "host"
