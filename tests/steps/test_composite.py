"""A composite runs steps as a pod runs each alone: their records, sentences, exit codes and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vqi.category import Category
from vqi.dataset.reader import Dataset
from vqi.steps.configure.step import step_settings
from vqi.steps.reports import read_step_report
from vqi_pipelines.local_run import run_category

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="steps are forked on Linux alone")
RUN = "0b1c2d3e-0000-4000-8000-000000000000"
# What makes the process of the step `check_dataset` do something else; its parent goes on to run main's own.
INSTEAD = """
import os, signal, sys, time
import vqi.steps.__main__ as entry
own = entry.main
def main(arguments=None):
    if arguments and arguments[1] == "check_dataset":
        {body}
    own(arguments)
entry.main = main
own(sys.argv[1:])
"""


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for number in range(6):
        path = tmp_path / "photographs" / ("train/good" if number < 4 else "test/good") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (40 * number, 90, 200)).save(path)
    return tmp_path / "photographs"


def prepare(folder: Path, source: Path, program: list[str] | None = None) -> subprocess.Popen[str]:
    """The process of `prepare`, started as KFP's launcher starts it."""
    category = Category.parse(
        {
            "name": "cap",
            "data": {"source": str(source)},
            "image": {"size": [32, 32]},
            "backbone": {"name": "filterbank"},
        }
    )
    settings = step_settings(category)
    task = folder / "pipeline" / RUN / "prepare"
    kinds = {"dataset": "system.Dataset", "dataset_page": "system.HTML"}
    executor_input = {
        "inputs": {"parameterValues": {f"{step}_settings": settings[step] for step in ("ingest", "check_dataset")}},
        "outputs": {
            "artifacts": {
                name: {"artifacts": [{"name": name, "type": {"schemaTitle": kind}, "uri": str(task / "1" / name)}]}
                for name, kind in kinds.items()
            },
            "outputFile": str(task / "output.json"),
        },
    }
    arguments = ["--function_to_execute", "prepare", "--executor_input", json.dumps(executor_input)]
    return subprocess.Popen(
        [sys.executable, *(program or ["-m", "vqi.steps"]), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "VQI_STEP_REPORTS": str(folder / "reports")},
    )


def output_of(folder: Path) -> dict[str, Any]:
    written: dict[str, Any] = json.loads((folder / "pipeline" / RUN / "prepare" / "output.json").read_text())
    return {name: held["artifacts"][0] for name, held in written["artifacts"].items()}


def test_its_outputs_are_its_steps_and_what_they_noted_is_passed_on(tmp_path: Path, photographs: Path) -> None:
    process = prepare(tmp_path, photographs)
    printed, _ = process.communicate(timeout=120)
    # Six photographs without a defect do not pass the check as they are; warnings do not stop it.
    assert process.returncode == 0, printed
    outputs = output_of(tmp_path)
    assert set(outputs) == {"dataset", "dataset_page"}
    dataset = Dataset(Path(outputs["dataset"]["uri"]))
    assert outputs["dataset"]["metadata"] == {"fingerprint": dataset.manifest.fingerprint, "images": 6}
    assert Path(outputs["dataset_page"]["uri"]).read_text().startswith("<!doctype html>")
    for step in ("ingest", "check_dataset"):
        report = read_step_report(tmp_path / "reports", step)
        assert report is not None
        assert report.state == "succeeded"
    assert read_step_report(tmp_path / "reports", "prepare") is None
    begun = [line for line in printed.splitlines() if " begins, " in line]
    assert begun == ["prepare: ingest begins, 1 of 2", "prepare: check_dataset begins, 2 of 2"]


def test_a_step_that_refuses_ends_it_with_its_own_sentence_and_exit_code(tmp_path: Path, photographs: Path) -> None:
    for path in photographs.rglob("*.png"):
        path.write_bytes(b"not a photograph")
    process = prepare(tmp_path, photographs)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert printed.splitlines()[-1].startswith("vqi ")
    assert "Traceback" not in printed
    assert not (tmp_path / "pipeline" / RUN / "prepare" / "output.json").exists()


def test_a_step_that_is_killed_kills_it(tmp_path: Path, photographs: Path) -> None:
    program = ["-c", INSTEAD.format(body="os.kill(os.getpid(), signal.SIGKILL)")]
    process = prepare(tmp_path, photographs, program)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert printed.splitlines()[-1] == "prepare: check_dataset begins, 2 of 2"


def test_a_step_is_reported_before_what_it_needs_is_imported(tmp_path: Path, photographs: Path) -> None:
    """Importing torch alone may take more memory than a pod has."""
    body = "vqi.steps.composite.import_layer = lambda layer: os.kill(os.getpid(), signal.SIGKILL)"
    code = f"import os, signal, sys; import vqi.steps.composite; {body}; from vqi.steps.__main__ import main; main()"
    process = prepare(tmp_path, photographs, ["-c", code])
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert printed.splitlines()[-1] == "prepare: ingest begins, 1 of 2"
    report = read_step_report(tmp_path / "reports", "ingest")
    assert report is not None
    assert report.state == "running"


def test_whoever_ends_it_ends_the_step(tmp_path: Path, photographs: Path) -> None:
    program = ["-c", INSTEAD.format(body="print('pid', os.getpid(), flush=True); time.sleep(300)")]
    process = prepare(tmp_path, photographs, program)
    assert process.stdout is not None
    pid = next(int(line.split()[1]) for line in process.stdout if line.startswith("pid "))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_the_compact_form_makes_what_the_full_form_makes(tmp_path: Path, photographs: Path) -> None:
    values = {
        "name": "cap",
        "data": {"source": str(photographs)},
        "image": {"size": [32, 32]},
        "backbone": {"name": "filterbank"},
        "export": {"formats": "onnx"},
    }
    full, compact = (
        run_category(Category.parse(values), tmp_path / "runs", lambda line: None, compact=form)
        for form in (False, True)
    )
    assert compact.metrics == full.metrics
    assert compact.threshold == full.threshold
    assert compact.seconds.keys() == full.seconds.keys()
    index = [next(Path(summary.bundle).glob("*.safetensors")).read_bytes() for summary in (full, compact)]
    assert index[0] == index[1]
    # What evaluate says of train's and build_index's cost comes from their artefacts.
    assert "cap-" in compact.run_dir
    assert Path(compact.report).is_file()
