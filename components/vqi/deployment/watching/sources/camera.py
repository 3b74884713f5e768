"""A camera: the newest frame, by time or for each line on standard input."""

from __future__ import annotations

import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import BinaryIO

import numpy as np

from vqi.deployment.watching.settings import WatchSettings
from vqi.deployment.watching.sources import FrameSource, Photograph
from vqi.deployment.watching.sources.capture import Capture

# A trigger gets the first frame that arrives after it, within this time.
FRAME_SECONDS = 2.0
# Frames that wait to be decided on, and triggers without frames; beyond, standard input is not read.
MOST_FRAMES, MOST_TRIGGERS = 8, 1000
LONGEST_TRIGGER = 200
WAIT_SECONDS = 0.05


class CameraSource(FrameSource):
    """Frames of the camera at `address`, every so many seconds; or, with `lines`, one for each line there.

    By time, frames that come while another is decided on are passed over. A trigger gets the first frame that arrives
    after it, or a sentence where there is none: never one of a later part.
    """

    def __init__(self, address: str, settings: WatchSettings, lines: BinaryIO | None = None) -> None:
        self._every, self._lines = settings.every_seconds, lines
        self._changed = threading.Condition()
        self._newest: tuple[np.ndarray, float] | None = None
        self._due = 0.0
        # When each open trigger came (time.monotonic), and its text.
        self._triggers: deque[tuple[float, str]] = deque()
        self._triggered: deque[Photograph] = deque()
        self._frames = self._number = 0
        self._closed = self._read_all = False
        self._capture = Capture(address, self._receive)
        self.label = self._capture.label
        self._capture.start()
        if lines:
            threading.Thread(target=self._read_lines, args=(lines,), name="triggers", daemon=True).start()

    @property
    def ended(self) -> bool:
        with self._changed:
            return self._read_all and not (self._triggers or self._triggered)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._capture.close()

    def take(self, most: int) -> list[Photograph]:
        with self._changed:
            photograph = self._next()
            if photograph is None:
                self._changed.wait(WAIT_SECONDS)
                photograph = self._next()
        return [photograph] if photograph and most else []

    def _next(self) -> Photograph | None:
        if self._lines:
            self._expire()
            if not self._triggered:
                return None
            photograph = self._triggered.popleft()
            self._frames -= isinstance(photograph.content, np.ndarray)
            self._changed.notify_all()
            return photograph
        now = time.monotonic()
        if self._newest is None or now < self._due:
            return None
        # A late one does not make those that follow come faster.
        self._due = max(self._due + self._every, now) if self._due else now + self._every
        (frame, at), self._newest = self._newest, None
        return self._photograph(frame, at)

    def _photograph(self, content: np.ndarray | str, at: float, trigger: str = "") -> Photograph:
        self._number += 1
        name = f"{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%S.%fZ}-{self._number:06}"
        return Photograph(name, content, at, trigger=trigger)

    def _receive(self, frame: np.ndarray) -> None:
        with self._changed:
            at = time.time()
            self._expire()
            if not self._lines:
                self._newest = (frame, at)
            while self._triggers:
                _, text = self._triggers.popleft()
                if self._frames < MOST_FRAMES:
                    self._triggered.append(self._photograph(frame, at, text))
                    self._frames += 1
                else:
                    sentence = (
                        f"Already {MOST_FRAMES} frames wait to be decided on; the frame of this trigger was dropped."
                    )
                    self._triggered.append(self._photograph(sentence, at, text))
            self._changed.notify_all()

    def _expire(self) -> None:
        while self._triggers and time.monotonic() - self._triggers[0][0] > FRAME_SECONDS:
            _, text = self._triggers.popleft()
            sentence = f"{self.label} gave no frame within {FRAME_SECONDS:.0f} s of the trigger."
            self._triggered.append(self._photograph(sentence, time.time(), text))

    def _read_lines(self, lines: BinaryIO) -> None:
        while line := lines.readline(LONGEST_TRIGGER):
            whole = line
            while not whole.endswith(b"\n") and (whole := lines.readline(LONGEST_TRIGGER)):
                pass  # the rest of a long line is not a trigger of its own
            text = line.decode("utf-8", "replace").strip()
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closed or len(self._triggers) + len(self._triggered) < MOST_TRIGGERS
                )
                self._triggers.append((time.monotonic(), text))
        with self._changed:
            self._read_all = True
