"""A step as a pod starts it, from the arguments that KFP's launcher hands over."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vqi.category import Category
from vqi.placement import DEVICE_STEPS, STEP_BY_NAME

IMAGES = {step: {"": f"here/{step}:1", "gaudi": f"here/{step}-gaudi:1"} for step in DEVICE_STEPS}


def run_configure(folder: Path, **values: Any) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """The process, and KFP's record of its outputs ({} where there is none)."""
    parameters = {**Category().parameters(), "backbone_name": "filterbank", "images": json.dumps(IMAGES), **values}
    executor_input = {"inputs": {"parameterValues": parameters}, "outputs": {"outputFile": str(folder / "output.json")}}
    command = [sys.executable, "-m", "vqi.steps", "--function_to_execute", "configure"]
    done = subprocess.run(
        [*command, "--executor_input", json.dumps(executor_input)], capture_output=True, text=True, env={**os.environ}
    )
    output = folder / "output.json"
    return done, json.loads(output.read_text()) if output.is_file() else {}


@pytest.mark.parametrize("step", STEP_BY_NAME)
def test_a_face_has_the_name_of_its_step(step: str) -> None:
    face = getattr(importlib.import_module(STEP_BY_NAME[step].face), step)
    assert face.python_func.__name__ == step


def test_a_step_is_run_by_its_name_and_its_outputs_are_written(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "0.png").write_bytes(b"0")
    done, output = run_configure(tmp_path, data_source=str(tmp_path / "good"))
    assert done.returncode == 0, done.stderr
    assert output["parameterValues"]["train_placement"]["image"] == "here/train:1"
    assert output["parameterValues"]["ingest_settings"]["data"]["source"] == str(tmp_path / "good")


def test_what_a_step_refuses_ends_it_with_its_sentence_and_exit_code(tmp_path: Path) -> None:
    done, output = run_configure(tmp_path)
    assert (done.returncode, output) == (2, {})
    assert done.stderr.splitlines()[-1].startswith("vqi configure: data_source is empty")
