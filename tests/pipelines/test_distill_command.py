"""`vqi distill` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from vqi_pipelines.command import app


def test_it_writes_a_teacher_and_prints_how_to_use_it(tmp_path: Path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        Image.fromarray(np.full((40, 40, 3), 60 * number, dtype=np.uint8)).save(pictures / f"{number}.png")
    out = tmp_path / "made" / "teacher.safetensors"
    values = [
        "image.size=40,40",
        "backbone.name=filterbank",
        "method.settings.channels=4",
        "train.max_steps=1",
        "train.batch_size=2",
    ]
    arguments = ["distill", str(pictures), "--out", str(out)]
    for value in values:
        arguments += ["--set", value]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    notes = json.loads(out.with_suffix(".json").read_text())
    assert out.is_file()
    assert f"sha256: {notes['sha256']}" in done.output
    assert "1 steps of 2 images" in done.output
    assert f"--set method.settings.teacher={out}" in done.output
