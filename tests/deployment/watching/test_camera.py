"""Cameras and videos: the newest frame, by time or by trigger."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from line import decisions, wait_until, watching
from mjpeg_camera import MjpegCamera
from toy_bundle import photograph
from vqi.deployment.watching.outbox import Outbox
from vqi.deployment.watching.settings import WatchSettings
from vqi.deployment.watching.sources import Photograph, camera, capture, open_source
from vqi.deployment.watching.sources.camera import CameraSource
from vqi.deployment.watching.sources.capture import Capture
from vqi.platform.errors import BadInput

FRAME = np.zeros((4, 4, 3), np.uint8)


class Stopped(Capture):
    """A camera whose frames a test hands over."""

    def start(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def open_camera(monkeypatch: pytest.MonkeyPatch) -> Callable[..., CameraSource]:
    monkeypatch.setattr(camera, "Capture", Stopped)
    monkeypatch.setattr(camera, "WAIT_SECONDS", 0)
    return lambda lines=None, **settings: CameraSource("camera:0", WatchSettings(**settings), lines)


class Lines:
    """Standard input that a test writes to; `close` is its end."""

    def __init__(self) -> None:
        import os

        reading, self._writing = os.pipe()
        self.file = os.fdopen(reading, "rb")
        self._file = os.fdopen(self._writing, "wb", buffering=0)

    def write(self, text: bytes) -> None:
        self._file.write(text)

    def close(self) -> None:
        self._file.close()


def frame(value: int) -> np.ndarray:
    return np.full((4, 4, 3), value, np.uint8)


def value(photographs: list[Photograph]) -> int:
    [one] = photographs
    assert isinstance(one.content, np.ndarray)
    return int(one.content.max())


def test_the_newest_frame_is_taken_and_none_twice(open_camera) -> None:
    source = open_camera(every_seconds=0)
    assert source.take(1) == []
    for number in (1, 2, 3):
        source._receive(frame(number))
    assert value(source.take(1)) == 3
    assert source.take(1) == []


def test_frames_are_taken_by_time(open_camera) -> None:
    source = open_camera(every_seconds=3600)
    source._receive(frame(1))
    assert value(source.take(1)) == 1
    source._receive(frame(2))
    assert source.take(1) == []
    source._due = time.monotonic()
    assert value(source.take(1)) == 2


def test_a_trigger_gets_the_first_frame_after_it(open_camera) -> None:
    lines = Lines()
    source = open_camera(lines.file)
    source._receive(frame(1))
    lines.write(b"part 7\n\n" + b"x" * 5000 + b"\n")
    wait_until(lambda: len(source._triggers) == 3)
    assert source.take(1) == []
    source._receive(frame(2))
    source._receive(frame(3))
    taken = [source.take(1)[0] for _ in range(3)]
    assert [int(each.content.max()) for each in taken] == [2, 2, 2]
    assert [each.trigger for each in taken] == ["part 7", "", "x" * 200]
    assert len({each.name for each in taken}) == 3
    assert not source.ended
    lines.close()
    wait_until(lambda: source.ended)


def test_a_trigger_without_a_frame_gets_a_sentence_and_no_later_one(
    open_camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines()
    source = open_camera(lines.file)
    lines.write(b"a\n")
    wait_until(lambda: len(source._triggers) == 1)
    monkeypatch.setattr(camera, "FRAME_SECONDS", 0.0)
    source._receive(frame(1))
    [one] = source.take(1)
    assert (one.trigger, one.content) == ("a", "camera:0 gave no frame within 0 s of the trigger.")
    assert source.take(1) == []
    lines.close()


def test_frames_that_wait_are_bounded(open_camera, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "MOST_FRAMES", 2)
    lines = Lines()
    source = open_camera(lines.file)
    lines.write(b"a\nb\nc\n")
    wait_until(lambda: len(source._triggers) == 3)
    source._receive(frame(1))
    kinds = [type(source.take(1)[0].content) for _ in range(3)]
    assert kinds == [np.ndarray, np.ndarray, str]
    lines.write(b"d\n")
    wait_until(lambda: len(source._triggers) == 1)
    source._receive(frame(2))
    assert value(source.take(1)) == 2
    lines.close()


def test_a_camera_in_the_network_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "FIRST_PAUSE", 0.02)
    shown = MjpegCamera(photograph(1))
    frames: list[np.ndarray] = []
    reading = Capture(shown.url, frames.append)
    reading.start()
    wait_until(lambda: len(frames) > 2)
    # Red, green and blue in this order.
    shown.show(photograph(1, defect=True))
    wait_until(lambda: frames[-1][40, 50, 0] > 150 and frames[-1][40, 50, 2] < 110)
    shown.stop()
    again = MjpegCamera(photograph(2), shown.port)
    wait_until(lambda: frames[-1][40, 50, 0] < 150)
    reading.close()
    again.stop()
    assert frames[-1].shape == (80, 96, 3)


def test_a_line_in_is_a_line_out(toy_bundle: Path, tmp_path: Path) -> None:
    shown = MjpegCamera(photograph(99))
    arguments = [str(toy_bundle), shown.url, "--trigger", "--backend", "onnxruntime"]
    with watching(*arguments, folder=tmp_path) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stderr.readline()
        answers = []

        def decide(name: str, wanted: str) -> None:
            """Trigger until a frame of the part that is shown now arrives."""
            while not answers or (answers[-1]["trigger"], answers[-1]["decision"]) != (name, wanted):
                process.stdin.write(f"{name}\n")
                process.stdin.flush()
                answers.append(json.loads(process.stdout.readline()))
                assert answers[-1]["trigger"] == name
                assert len(answers) < 200

        decide("part 1", "good")
        shown.show(photograph(99, defect=True))
        decide("part 2", "defect")
        process.stdin.close()
        assert process.wait(30) == 0
        process.stdin = None
    shown.stop()
    assert {each["source"] for each in answers} == {shown.url}


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 80))
    for number in range(10):
        writer.write(np.ascontiguousarray(photograph(99, defect=number == 6)[..., ::-1]))
    writer.release()
    return path


def test_a_video_is_decided_on_by_its_own_time_and_once(tmp_path: Path, video: Path, watch_once) -> None:
    assert watch_once(video, [str(tmp_path / "out")], every_seconds=0.3) == 4
    lines = decisions(tmp_path / "out")
    assert [each["image"] for each in lines] == [f"line.avi-{number:06}" for number in (0, 3, 6, 9)]
    assert [each["decision"] for each in lines] == ["good", "good", "defect", "good"]
    assert "picture" in lines[2]
    assert watch_once(video, [str(tmp_path / "out")], every_seconds=0.3) == 0
    assert watch_once(video, [str(tmp_path / "out")], every_seconds=0) == 6


@pytest.mark.parametrize(
    ("source", "settings", "sentence"),
    [
        ("camera:", {}, "is not a camera"),
        ("camera:x", {}, "is not a camera"),
        ("rtsp:///x", {}, "needs a host"),
        ("rtsp://user:secret@host/x", {}, "VQI_CAMERA_PASSWORD"),
        ("ftp://host/x", {}, "not known"),
        ("camera:0", {"once": True}, "--once is for folders"),
        ("camera:0", {"done": "done"}, "--done is for folders"),
        (".", {"trigger": True}, "needs a camera"),
        ("text.avi", {}, "neither a folder nor a video"),
    ],
)
def test_a_source_that_cannot_be_used_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, settings: dict[str, object], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.avi").write_text("no video")
    with pytest.raises(BadInput, match=sentence) as error:
        open_source(source, WatchSettings(**settings), Outbox(tmp_path, [], 1))
    assert "secret" not in str(error.value)


def test_a_password_comes_from_the_environment_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQI_CAMERA_USER", "line")
    monkeypatch.setenv("VQI_CAMERA_PASSWORD", "a@b/c")
    reading = Stopped("rtsp://host:554/stream?channel=1", lambda frame: None)
    assert reading._open.args[0] == "rtsp://line:a%40b%2Fc@host:554/stream?channel=1"
    assert reading.label == "rtsp://host:554/stream"


def test_a_camera_that_is_away_does_not_keep_a_watch_from_ending(watch_once) -> None:
    stop = threading.Event()
    thread = threading.Thread(daemon=True, target=watch_once, args=("camera:77", ["-"], stop), kwargs={"once": False})
    thread.start()
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
