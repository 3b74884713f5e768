"""A GenICam camera, with a module in the shape of harvesters 1.4 in place of it."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from line import wait_until
from vqi.deployment.watching.settings import WatchSettings
from vqi.deployment.watching.sources import camera, capture
from vqi.deployment.watching.sources.camera import CameraSource
from vqi.deployment.watching.sources.genicam import PRODUCERS, pixels_of_component
from vqi.platform.errors import BadInput


class TimeoutException(Exception): ...


class PulledOut(Exception): ...


def component(values: np.ndarray, form: str, padding: int = 0) -> types.SimpleNamespace:
    lines = np.pad(values.reshape(len(values), -1), ((0, 0), (0, padding)))
    return types.SimpleNamespace(
        data_format=form, height=values.shape[0], width=values.shape[1], data=lines.reshape(-1)
    )


class Buffer:
    def __init__(self, one: types.SimpleNamespace) -> None:
        self.payload = types.SimpleNamespace(components=[one])

    def __enter__(self) -> Buffer:
        return self

    def __exit__(self, *_: object) -> None:
        self.payload.components[0].data[:] = 0  # given back: the producer writes the next frame into it


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A producer with one camera; `next` gives what its next fetch does, `calls` are those of harvesters."""
    state: dict[str, Any] = {"calls": [], "next": lambda: Buffer(component(np.full((2, 3), 7, np.uint8), "Mono8"))}

    class Camera:
        remote_device = types.SimpleNamespace(node_map=types.SimpleNamespace(Width=types.SimpleNamespace(value=3)))

        def fetch(self, *, timeout: float) -> Buffer:
            return state["next"]()

        def __getattr__(self, name: str) -> Callable[[], None]:
            return lambda: state["calls"].append(name)

    class Harvester:
        def add_file(self, path: str) -> None:
            state["calls"].append(Path(path).name)

        def update(self) -> None: ...

        def create(self, search: dict[str, str] | None = None) -> Camera:
            state["calls"].append(search)
            if search not in (None, {"serial_number": "4711"}):
                raise ValueError("no device found")
            return Camera()

        def reset(self) -> None:
            state["calls"].append("reset")

    core = types.ModuleType("harvesters.core")
    core.Harvester = Harvester  # type: ignore[attr-defined]
    gentl = types.ModuleType("genicam.gentl")
    gentl.TimeoutException = TimeoutException  # type: ignore[attr-defined]
    for name, module in (
        ("harvesters", types.ModuleType("harvesters")),
        ("harvesters.core", core),
        ("genicam", types.ModuleType("genicam")),
        ("genicam.gentl", gentl),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    (tmp_path / "maker.cti").touch()
    monkeypatch.setenv(PRODUCERS, f"/nowhere:{tmp_path}")
    monkeypatch.setattr(capture, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(camera, "WAIT_SECONDS", 0.01)
    return state


@pytest.fixture
def source(bench: dict[str, Any]) -> Iterator[CameraSource]:
    opened = CameraSource("genicam:4711", WatchSettings(every_seconds=0))
    yield opened
    opened.close()


def frame_of(source: CameraSource) -> np.ndarray:
    taken: list[Any] = []
    wait_until(lambda: bool(taken.extend(source.take(1)) or taken))
    return taken[0].content


def test_frames_are_taken_from_the_camera_with_the_serial_number(source: CameraSource, bench: dict[str, Any]) -> None:
    np.testing.assert_array_equal(frame_of(source), np.full((2, 3), 7))
    assert bench["calls"][:3] == ["maker.cti", {"serial_number": "4711"}, "start"]
    source.close()
    wait_until(lambda: bench["calls"][-3:] == ["stop", "destroy", "reset"])


def test_a_camera_that_waits_for_its_trigger_is_waited_for_and_a_lost_one_is_opened_again(
    source: CameraSource, bench: dict[str, Any]
) -> None:
    frame_of(source)
    waits = threading.Event()

    def waiting() -> Buffer:
        waits.set()
        raise TimeoutException

    bench["next"] = waiting
    assert waits.wait(10)
    assert bench["calls"].count("reset") == 0

    def pulled_out() -> Buffer:
        raise PulledOut

    bench["next"] = pulled_out
    wait_until(lambda: bench["calls"].count("start") > 2)
    bench["next"] = lambda: Buffer(component(np.full((2, 3, 3), (1, 2, 3), np.uint8), "BGR8"))
    wait_until(lambda: frame_of(source).shape == (2, 3, 3))
    np.testing.assert_array_equal(frame_of(source)[0, 0], (3, 2, 1))


def test_pixels_are_those_of_the_format() -> None:
    random = np.random.default_rng(0)
    grey = random.integers(0, 4096, (4, 6), dtype=np.uint16)
    np.testing.assert_array_equal(pixels_of_component(component(grey, "Mono12", padding=2)), grey)
    colours = random.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    np.testing.assert_array_equal(pixels_of_component(component(colours, "RGB8")), colours)
    red = np.zeros((8, 8), np.uint8)
    red[::2, ::2] = 200  # where BayerRG has its red pixels
    assert pixels_of_component(component(red, "BayerRG8"))[4, 4].tolist() == [200, 0, 0]
    blue = pixels_of_component(component(red, "BayerBG8"))
    assert blue[4, 4].tolist() == [0, 0, 200]
    np.testing.assert_array_equal(blue, cv2.cvtColor(red, cv2.COLOR_BayerRG2RGB))
    for form in ("YUV422_8", "BayerXX8"):
        with pytest.raises(BadInput, match=f"The pixel format {form} is not read; set the camera to Mono8"):
            pixels_of_component(component(red, form))


@pytest.mark.parametrize(
    ("address", "changes", "sentence"),
    [
        ("genicam:", {}, "names no camera"),
        (
            "genicam:4711",
            {PRODUCERS: "/nowhere"},
            r"GENICAM_GENTL64_PATH hold 0 GenTL producers \(\*\.cti\)",
        ),
    ],
)
def test_what_is_missing_is_said_at_the_start(
    bench: dict[str, Any], monkeypatch: pytest.MonkeyPatch, address: str, changes: dict[str, str], sentence: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=sentence):
        CameraSource(address, WatchSettings())


def test_without_harvesters_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "harvesters", None)
    with pytest.raises(BadInput, match=r"needs harvesters; pip install 'vqi\[genicam\]'"):
        CameraSource("genicam:any", WatchSettings())


def test_a_camera_that_is_not_here_gives_no_frame(bench: dict[str, Any]) -> None:
    opened = CameraSource("genicam:1", WatchSettings())
    wait_until(lambda: bench["calls"].count({"serial_number": "1"}) > 1)
    assert opened.take(1) == []
    opened.close()
