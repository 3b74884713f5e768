"""A camera by OpenCV, or by harvesters: frames as they come, for as long as it takes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

import numpy as np

from vqi.deployment.watching.sources.genicam import ANY, PREFIX, GenicamReader, check_genicam
from vqi.platform.errors import BadInput
from vqi.platform.logs import logger

log = logger(__name__)

USER, PASSWORD = "VQI_CAMERA_USER", "VQI_CAMERA_PASSWORD"
SCHEMES = ("rtsp", "rtsps", "http", "https")
TIMEOUT_MS = 10_000
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0


class Reader(Protocol):
    """A camera that was opened, or tried to be."""

    def read(self) -> np.ndarray | None:
        """The next frame; None where there is none: it is opened again."""
        ...

    def release(self) -> None: ...


class OpenCvReader:
    """A camera's number or address by OpenCV."""

    def __init__(self, address: int | str) -> None:
        self._capture = open_capture(address)

    def read(self) -> np.ndarray | None:
        return read_frame(self._capture)

    def release(self) -> None:
        self._capture.release()


class Capture:
    """Reads frames in a thread and hands each to `on_frame`: RGB uint8 [H, W, 3], or as a GenICam camera gives them; a
    camera that is away is opened again
    and again. Raises BadInput for an address that cannot be one."""

    def __init__(self, address: str, on_frame: Callable[[np.ndarray], None]) -> None:
        self._stop = threading.Event()
        self._open, self.label = _parse(address, self._stop)
        self._on_frame = on_frame
        self._thread = threading.Thread(target=self._run, name=f"camera {self.label}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the thread; one that waits for a camera ends with the process."""
        self._stop.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        pause, away = FIRST_PAUSE, False
        while not self._stop.is_set():
            reader = self._open()
            frames = 0
            try:
                while not self._stop.is_set() and (frame := reader.read()) is not None:
                    if away:
                        log.warning(f"{self.label} gives frames again.")
                    pause, away, frames = FIRST_PAUSE, False, frames + 1
                    self._on_frame(frame)
            finally:
                reader.release()
            if self._stop.is_set():
                return
            if not away:
                log.warning(f"{self.label} gives no frames; it is opened again until it does.")
            away = True
            self._stop.wait(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)


def open_capture(address: int | str) -> Any:
    """OpenCV's capture of a camera's number, an address or a file; its own log would show passwords."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    if isinstance(address, str) and "://" in address:
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
        return cv2.VideoCapture(address, cv2.CAP_FFMPEG, timeouts)
    return cv2.VideoCapture(address)


def read_frame(capture: Any) -> np.ndarray | None:
    """The next frame as RGB, uint8 [H, W, 3]; None where there is none."""
    import cv2

    try:
        good, frame = capture.read()
        if not good or frame is None:
            return None
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB if frame.ndim == 2 else cv2.COLOR_BGR2RGB))
    except cv2.error:
        return None


def is_camera(address: str) -> bool:
    return address.startswith(("camera:", PREFIX)) or address.partition("://")[0] in SCHEMES


def _parse(address: str, stop: threading.Event) -> tuple[Callable[[], Reader], str]:
    """What opens a camera, and what people read. User and password come from the environment."""
    if address.startswith(PREFIX):
        serial = address.removeprefix(PREFIX)
        if not serial:
            raise BadInput(f"The source {PREFIX} names no camera; add its serial number, or {ANY} for the only one.")
        check_genicam()
        return partial(GenicamReader, serial, stop), address
    if address.startswith("camera:"):
        number = address.removeprefix("camera:")
        if number.isdecimal():
            return partial(OpenCvReader, int(number)), address
        if number.startswith("/dev/"):
            return partial(OpenCvReader, number), address
        raise BadInput(f"The source {address} is not a camera; name it by its number (camera:0) or camera:/dev/....")
    try:
        parts = urlsplit(address)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise BadInput(f"The source {address.partition('://')[0]}://... is not an address; it needs a host.")
    if parts.username is not None:
        raise BadInput(f"The source at {parts.hostname} holds a user or password; set {USER} and {PASSWORD} instead.")
    label = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    if user := os.environ.get(USER, ""):
        login = f"{quote(user, safe='')}:{quote(os.environ.get(PASSWORD, ''), safe='')}"
        parts = parts._replace(netloc=f"{login}@{parts.netloc}")
    return partial(OpenCvReader, urlunsplit(parts)), label
