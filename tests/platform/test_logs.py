"""What a run says of itself, in every form, and that nothing goes past the logger."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from vqi.platform import logs
from vqi.platform.errors import BadInput
from vqi.platform.progress import Progress
from vqi.steps.running import step

ROOT = Path(__file__).resolve().parents[2]
LOG = logs.logger("vqi.room.module")


@pytest.fixture(autouse=True)
def configured_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the logger as it was found."""
    monkeypatch.setenv(logs.VARIABLE, "")
    monkeypatch.delenv(logs.STEP, raising=False)
    logs.configure()
    yield
    monkeypatch.undo()
    logs.configure()


def speak() -> None:
    LOG.debug("a detail")
    LOG.info("a fact: 100 %d")
    LOG.warning("a doubt")
    LOG.error("vqi: a mistake")


def test_a_message_is_printed_as_it_is_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    speak()
    assert capsys.readouterr() == ("", "a fact: 100 %d\na doubt\nvqi: a mistake\n")


def test_quiet_leaves_warnings_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_verbosity(logs.QUIET)
    speak()
    assert logs.is_quiet()
    assert capsys.readouterr().err == "a doubt\nvqi: a mistake\n"


def test_debug_adds_details_with_time_and_logger(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_verbosity(logs.DEBUG)
    speak()
    first, *others = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d vqi\.room\.module: a detail", first)
    assert others == ["a fact: 100 %d", "a doubt", "vqi: a mistake"]


def test_the_last_verbosity_holds_and_json_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(logs.VARIABLE, "JSON , quiet")
    logs.set_verbosity(logs.DEBUG)
    assert os.environ[logs.VARIABLE] == "debug,json"
    assert not logs.is_quiet()
    assert logs.variables_of_children() == {logs.VARIABLE: "debug"}


def test_json_lines_have_time_level_logger_step_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json,debug")
    with logs.of_step("train"):
        speak()
    LOG.info("  outside\nof it")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["debug", "info", "warning", "error", "info"]
    assert [line["step"] for line in lines] == ["train"] * 4 + [""]
    assert lines[1]["message"] == "a fact: 100 %d"
    assert lines[4]["message"] == "outside\nof it"
    for line in lines:
        assert list(line) == ["time", "level", "logger", "step", "message"]
        assert line["logger"] == "vqi.room.module"
        assert abs((datetime.now().astimezone() - datetime.fromisoformat(line["time"])).total_seconds()) < 60


@pytest.mark.parametrize("words", ["", "json"])
def test_control_characters_are_escaped(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(words)
    LOG.info("a\x1b[31m name\ud800\nand\ra line")
    text = capsys.readouterr().err
    if words:
        text = json.loads(text)["message"] + "\n"
    assert text == "a\\x1b[31m name\\ud800\nand\\ra line\n"


def test_words_that_mean_nothing_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("jsn,quiet")
    assert capsys.readouterr().err == "VQI_LOG holds 'jsn'; it takes json, quiet and debug, with commas.\n"


def test_progress_goes_through_the_logger(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("", "json", "quiet"):
        logs.configure(words)
        Progress("learnt", 4, every=0).advance(note="loss .5")
    plain, line = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"learnt 1/4 \(25 %\), \d+ s left, loss \.5", plain)
    assert re.fullmatch(r"learnt 1/4 \(25 %\), \d+ s left, loss \.5", json.loads(line)["message"])


def test_standard_error_that_takes_nothing_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        speak()
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space left"):
            full.flush()
        full.close = lambda: None  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", None)
    speak()


def test_another_librarys_configuration_prints_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    try:
        LOG.warning("once")
    finally:
        logging.getLogger().removeHandler(handler)
    assert capsys.readouterr().err == "once\n"


def test_a_step_says_the_same_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    with step("train"):
        LOG.info("learning")
    learning, last = capsys.readouterr().err.splitlines()
    assert learning == "learning"
    assert re.fullmatch(r"vqi train: \d+\.\d s, peak \d+ MiB", last)
    with pytest.raises(SystemExit, match="2"), step("train"):
        raise BadInput("data.source is empty\x07.")
    assert capsys.readouterr().err == "vqi train: data.source is empty\\x07.\n"
    with pytest.raises(SystemExit, match="1"), step("train"):
        raise RuntimeError("a bug of ours")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "RuntimeError: a bug of ours"
    assert logs.STEP not in os.environ


def learn_and_fail() -> None:
    LOG.info("learning")
    raise RuntimeError("a bug of ours")


def test_a_steps_lines_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    with pytest.raises(SystemExit), step("train"):
        learn_and_fail()
    learning, error = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (learning["step"], learning["logger"]) == ("train", "vqi.room.module")
    assert (error["level"], error["message"], error["step"]) == ("error", "RuntimeError: a bug of ours", "train")
    assert error["exc_info"].startswith("Traceback (most recent call last):\n")


def vqi(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from vqi_pipelines.command import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables})


def test_the_command_takes_verbose_and_quiet(tmp_path: Path) -> None:
    arguments = ("check", str(tmp_path / "none"))
    plain = vqi(*arguments)
    assert plain.stderr.startswith("vqi: ")
    assert vqi("-q", *arguments).stderr == plain.stderr
    detail, error = vqi("-v", *arguments).stderr.splitlines()
    assert re.match(r"\d\d:\d\d:\d\d vqi\.pipelines\.command: vqi \d+\.\d+\.\d+, Python 3\.", detail)
    assert f"{error}\n" == plain.stderr
    line = json.loads(vqi(*arguments, VQI_LOG="json").stderr)
    assert (line["level"], line["message"]) == ("error", plain.stderr.strip())
    both = vqi("-v", "-q", *arguments)
    assert both.returncode == 2
    assert "--verbose and --quiet exclude each other" in both.stderr


PAST_IT = ("traceback.print_exc", "sys.stderr.write", "logging.basicConfig")


def stray_prints(file: Path) -> list[str]:
    """Where a file prints to standard error past the logger."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            words = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            name = ast.unparse(node.func)
            if words.get("file") == "sys.stderr" or words.get("err") == "True" or name in PAST_IT:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    return found


def test_nothing_is_printed_past_the_logger() -> None:
    files = [file for side in ("components", "pipelines") for file in sorted((ROOT / side).rglob("*.py"))]
    files.remove(ROOT / "components/vqi/platform/logs.py")
    assert [line for file in files for line in stray_prints(file)] == []
