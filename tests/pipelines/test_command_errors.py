"""Every command ends with one sentence and an exit code where the operating system refuses what it needs; `--json`
gives it as JSON too."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vqi.dataset.generator import generate
from vqi.platform.files import write_json

PROGRAM = "from vqi_pipelines.command import main; main()"
SMALL = {"backbone": {"name": "filterbank"}, "image": {"size": [96, 96]}}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "parts"
    generate(folder, seed=1, normals=4, test_normals=1, defects_each=1, size=(96, 96))
    return folder


@pytest.fixture(scope="module")
def category(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("catalog") / "plate.yaml"
    write_json(file, {"name": "plate", "data": {"source": str(parts)}, **SMALL})
    return file


def vqi(*arguments: str, cwd: Path, largest: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command; `largest` is the most bytes that a file may have, which stands for a disk that is full."""

    def limited() -> None:
        if largest:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    # Counting lines (COVERAGE=yes) would write a file of its own, over the limit as well.
    unwanted = {"MLFLOW_TRACKING_URI"} | ({"COVERAGE_PROCESS_CONFIG"} if largest else set())
    environment = {name: value for name, value in os.environ.items() if name not in unwanted} | {
        "PYTHONDONTWRITEBYTECODE": "1"
    }
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300, preexec_fn=limited
    )


def commands(out: str, parts: Path, category: Path, bundle: Path) -> dict[str, list[str]]:
    distil = ["--set", "backbone.name=filterbank", "--set", "train.max_steps=1"]
    return {
        "check": ["check", str(parts), "--out", out],
        "predict": ["predict", str(bundle), str(parts / "test"), "--out", out, "--json"],
        "preview": ["preview", "patchcore", "--category", str(category), "--out", f"{out}/sheet.png"],
        "compile": ["compile", "--out", out],
        "demo": ["demo", "--out", out, "--data", str(parts), "--weights", str(category), "--json"],
        "run": ["run", "--category", str(category), "--out", out, "--json"],
        "run-all": ["run-all", "--category", str(category), "--out", out, "--json"],
        "distill": ["distill", str(parts), "--out", f"{out}/teacher.safetensors", *distil],
    }


@pytest.mark.parametrize("name", commands("", Path(), Path(), Path()))
def test_out_below_a_file(name: str, parts: Path, category: Path, toy_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    arguments = commands("file/out", parts, category, toy_bundle)[name]
    done = vqi(*arguments, cwd=tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert last.startswith("vqi: ")
    assert "file/out" in last
    assert "lies below a file" in last
    if "--json" in arguments:
        assert json.loads(done.stdout) == {"error": last.removeprefix("vqi: "), "exit_code": 2}
    else:
        assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("name", "largest"), [("check", 20_000), ("predict", 1000), ("preview", 1000), ("compile", 1000)]
)
def test_a_full_disk(name: str, largest: int, parts: Path, category: Path, toy_bundle: Path, tmp_path: Path) -> None:
    done = vqi(*commands("out", parts, category, toy_bundle)[name], cwd=tmp_path, largest=largest)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    # Bringing photographs in has a sentence of its own.
    assert re.search(
        r"cannot be written: it is larger than|cannot be brought in: File too large",
        done.stderr.strip().splitlines()[-1],
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_standard_output(tmp_path: Path, unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", PROGRAM, "methods", "--json"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=60, env=environment
        )
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
