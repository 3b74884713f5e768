from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vqi.detectors.settings import method_names
from vqi.platform.errors import BadInput
from vqi.tools import cost as costing
from vqi_pipelines.command import app
from vqi_pipelines.commands.preview import of_method


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_method_is_listed() -> None:
    assert [row["name"] for row in json.loads(run("methods", "--json"))] == method_names()
    listed = run("methods")
    assert "patchcore     memory      nothing to train" in listed
    assert "efficient_ad  trained     70000 steps of 1 image a step" in listed


@pytest.mark.parametrize(
    "arguments", [["methods", "--json"], ["methods", "draem", "--no-cost"], ["methods", "dfm", "--no-cost", "--json"]]
)
def test_descriptions_need_no_torch(arguments: list[str]) -> None:
    blocked = (
        "import sys\nfor name in ('torch', 'kfp', 'mlflow'): sys.modules[name] = None\nsys.argv = "
        f"{['vqi', *arguments]}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked + "from vqi_pipelines.command import main; main()"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "dfm" in done.stdout or "draem" in done.stdout


def test_defaults_are_written_as_one_would_set_them() -> None:
    lines = run("methods", "cutpaste", "--no-cost") + run("methods", "draem", "--no-cost")
    assert "  cycles = 1    (whole number" in lines
    assert "  sspcab = false    (true or false)" in lines
    assert "  textures = ''    (text)" in lines


def test_one_method_with_what_it_costs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costing, "SECONDS", 0.02)
    description = json.loads(run("methods", "stfpm", "--json", "--size", "64", "--device", "cpu"))
    assert description["settings"][0] == {
        "name": "learning_rate",
        "type": "number",
        "default": 0.4,
        "low": 1e-9,
        "high": 100.0,
        "choices": [],
        "meaning": "learning rate of SGD",
        "source": "paper, section 4",
    }
    assert description["cost"]["layers"] == ["layer1", "layer2", "layer3"]
    assert description["cost"]["trainings"][0]["steps"] == 700
    lines = run("methods", "padim", "--size", "64,96", "--device", "cpu")
    assert "64 x 96 pixels" in lines
    assert "from 200 photographs to a detector" in lines


def test_wrong_options_are_one_sentence() -> None:
    for arguments, sentence in (
        (["methods", "padm"], "Did you mean 'padim'"),
        (["methods", "padim", "--size", "big"], "height and width"),
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == BadInput.exit_code
        assert sentence in result.stderr


def test_a_preview_takes_the_category_and_leaves_another_methods_settings(tmp_path: Path) -> None:
    file = tmp_path / "gear.yaml"
    file.write_text("data: {source: photos}\nseed: 5\nmethod:\n  name: padim\n  settings: {channels: 50}\n")
    assert of_method(str(file), "padim", []).method_settings["channels"] == 50
    other = of_method(str(file), "cutpaste", ["image.size=64", "method.settings.variant=scar"])
    assert (other.method.name, other.method_settings["variant"], other.seed, other.geometry.size) == (
        "cutpaste",
        "scar",
        5,
        (64, 64),
    )
    file.write_text("method: {name: padim}\n")
    with pytest.raises(BadInput, match=r"data\.source is empty"):
        of_method(str(file), "padim", [])


def test_a_preview_comes_from_an_archive_without_a_run(tmp_path: Path) -> None:
    import shutil

    from vqi.dataset.generator import generate

    generate(tmp_path / "parts", seed=1, normals=4, test_normals=1, defects_each=1, size=(96, 96))
    archive = shutil.make_archive(str(tmp_path / "parts"), "zip", tmp_path / "parts")
    out = tmp_path / "sheet.png"
    printed = run(
        "preview",
        "simsiam",
        "--category",
        "new",
        "--set",
        f"data.source={archive}",
        "--set",
        "image.size=64",
        "--out",
        str(out),
    )
    assert "simsiam learns from: first, second." in printed
    assert out.read_bytes().startswith(b"\x89PNG")
