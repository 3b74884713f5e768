from __future__ import annotations

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from vqi.deployment.bench_record import read_bench
from vqi.platform.errors import BadInput
from vqi_pipelines.commands.bench import bench

application = typer.Typer()
application.command()(bench)
QUICK = ("--threads", "1", "--batch", "1", "--seconds", "0.01")


def run(*arguments: object):
    return CliRunner().invoke(application, [str(argument) for argument in arguments])


def test_a_table_marks_the_best_and_the_file_holds_it(toy_bundle: Path, tmp_path: Path) -> None:
    result = run(toy_bundle, *QUICK, "--save", tmp_path / "bench.json")
    assert result.exit_code == 0, result.output
    record = read_bench(tmp_path / "bench.json")
    (best,) = [line for line in result.stdout.splitlines() if line.startswith("*")]
    assert best.split()[1] == record.best.backend
    assert f"--bench {tmp_path}/bench.json)" in result.stdout
    for backend in ("openvino", "onnxruntime"):
        assert backend in result.stdout


def test_json_is_what_the_file_would_hold(toy_bundle: Path) -> None:
    result = run(toy_bundle, *QUICK, "--backend", "openvino", "--json")
    value = json.loads(result.stdout)
    assert value["format"] == "vqi-bench/1"
    assert [one["setting"] for one in value["timings"]] == [value["best"]]


def test_nothing_is_saved_where_nothing_was_measured(toy_bundle: Path, tmp_path: Path) -> None:
    result = run(toy_bundle, "--backend", "tensorrt", "--save", tmp_path / "bench.json")
    assert isinstance(result.exception, BadInput)
    assert list(tmp_path.iterdir()) == []
