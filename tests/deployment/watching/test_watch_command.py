"""`vqi watch` as a process: killed, ended, and started with what it cannot use."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from line import Receiver, appear, decisions, wait_until, watching
from vqi_pipelines.command import app


def test_sigterm_finishes_what_is_in_hand_and_ends_well(toy_bundle: Path, tmp_path: Path) -> None:
    appear(tmp_path / "in", "a.png")
    with watching(str(toy_bundle), "in", "--settle", "0", "--backend", "onnxruntime", folder=tmp_path) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["image"] == "a.png"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr
        assert "Decisions: 1." in process.stderr.read()


def test_without_a_reader_of_standard_output_it_ends_and_nothing_is_lost(toy_bundle: Path, tmp_path: Path) -> None:
    appear(tmp_path / "in", "a.png")
    arguments = [str(toy_bundle), "in", "--settle", "0", "--backend", "onnxruntime"]
    with watching(*arguments, folder=tmp_path) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        appear(tmp_path / "in", "b.png")
        assert process.wait(30) == 1
        process.stdout = None
        assert "Nobody reads standard output" in process.stderr.read()
    with watching(*arguments, "--once", folder=tmp_path) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["image"] == "b.png"
        assert process.wait(30) == 0


@pytest.mark.slow
def test_killed_again_and_again_no_decision_is_lost_or_written_twice(toy_bundle: Path, tmp_path: Path) -> None:
    for number in range(60):
        appear(tmp_path / "in", f"{number:03}.png", defect=number % 5 == 0)
    receiver = Receiver()
    arguments = [str(toy_bundle), "in", "--sink", "out", "--sink", receiver.url, "--done", "done", "--once"]
    options = ["--settle", "0", "--batch", "1", "--backend", "onnxruntime"]
    for kills in (3, 17, 29):
        with watching(*arguments, *options, folder=tmp_path) as process:
            wait_until(
                lambda kills=kills: len(list((tmp_path / "done").glob("*"))) >= kills or process.poll() is not None
            )
            assert process.poll() is None
            process.kill()
    with watching(*arguments, *options, folder=tmp_path) as process:
        assert process.wait(60) == 0
    receiver.stop()
    names = [f"{number:03}.png" for number in range(60)]
    assert [each["image"] for each in decisions(tmp_path / "out")] == names
    assert sorted(path.name for path in (tmp_path / "done").iterdir()) == names
    # A receiver may see what was on its way twice, and knows it by its id.
    bodies = {headers["Idempotency-Key"]: body for headers, body in receiver.got}
    assert [json.loads(body)["image"] for body in bodies.values()] == names
    assert len(receiver.got) <= len(names) + 3
    pictures = {each["picture"] for each in decisions(tmp_path / "out") if each["decision"] == "defect"}
    assert len(pictures) == 12
    assert all((tmp_path / "out" / picture).is_file() for picture in pictures)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing"], "is not a folder"),
        (["in", "--pictures", "some"], "pictures is 'some'"),
        (["in", "--buffer", "0"], "buffer is 0"),
        (["in", "--sink", "ftp://host"], "cannot be used"),
        (["in", "--implausible", "maybe"], "refuse or score"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_exit_code_2(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    result = CliRunner().invoke(app, ["watch", str(toy_bundle), *arguments])
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_state_folder_is_used_by_one_process(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vqi.platform.files import locked

    monkeypatch.chdir(tmp_path)
    for name in ("in", "watch-state"):
        (tmp_path / name).mkdir()
    with locked(tmp_path / "watch-state" / "lock", 0, "it"):
        result = CliRunner().invoke(app, ["watch", str(toy_bundle), "in", "--once"])
    assert result.exit_code == 1
    assert "held by another process" in result.stderr
