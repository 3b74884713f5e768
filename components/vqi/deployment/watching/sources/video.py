"""A video file: its frames in order, every so many seconds of it."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from vqi.deployment.watching.outbox import Outbox
from vqi.deployment.watching.settings import WatchSettings
from vqi.deployment.watching.sources import FrameSource, Photograph
from vqi.deployment.watching.sources.capture import open_capture, read_frame
from vqi.platform.errors import BadInput

# Where a file does not say.
FRAMES_PER_SECOND = 25.0
# So that a process that is asked to end is heard.
MOST_PASSED_OVER = 100


class VideoSource(FrameSource):
    """Frames of the file at `path`; those that were decided on before a restart are passed over. Raises BadInput where
    it is not a video."""

    def __init__(self, path: Path, settings: WatchSettings, outbox: Outbox) -> None:
        import cv2

        self.label, self._outbox, self.ended = str(path), outbox, False
        stat = os.stat(path)
        self._file = hashlib.sha256(os.fsencode(f"{path.name}/{stat.st_size}/{stat.st_mtime_ns}")).hexdigest()[:32]
        self._capture = open_capture(str(path))
        if not self._capture.isOpened():
            raise BadInput(f"{path} is neither a folder nor a video that can be read.")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self._step = max(1, round(settings.every_seconds * (rate if 0 < rate < 10_000 else FRAMES_PER_SECOND)))
        self._number = 0

    def close(self) -> None:
        self._capture.release()

    def take(self, most: int) -> list[Photograph]:
        """The next frame; [] at the end, and now and then between frames that are passed over."""
        for _ in range(MOST_PASSED_OVER if most else 0):
            number, key = self._number, f"{self._file}-{self._number}"
            self._number += 1
            if number % self._step or self._outbox.is_decided(key):
                self.ended = not self._capture.grab()
                if self.ended:
                    break
                continue
            frame = read_frame(self._capture)
            if frame is None:
                self.ended = True
                break
            return [Photograph(f"{Path(self.label).name}-{number:06}", frame, time.time(), key)]
        return []
