from __future__ import annotations

from pathlib import Path

import typer
from PIL import Image
from typer.testing import CliRunner

from vqi.dataset.generator import generate
from vqi_pipelines.commands.check import check

application = typer.Typer()
application.command()(check)


def test_findings_are_told_and_no_name_drives_the_terminal(tmp_path: Path) -> None:
    parts, out = tmp_path / "parts", tmp_path / "found\x1b[2J"
    generate(parts, seed=1, normals=6, test_normals=2, defects_each=1, size=(96, 96))
    Image.new("RGB", (96, 96), "grey").save(parts / "train" / "good" / "blank.png")
    result = CliRunner().invoke(application, [str(parts), "--out", str(out), "--set", "image.size=[96, 96]"])
    assert result.exit_code == 0, result.output
    assert "warning: 1 image of nearly one colour" in result.stdout
    assert f"Page: {tmp_path}/found\\x1b[2J/check.html\n" in result.stdout
    assert (out / "check.html").is_file()
    assert all(line.isprintable() for line in result.stdout.split("\n"))
