"""Where photographs come from. A source is a file here."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from vqi.deployment.watching.outbox import Outbox
from vqi.deployment.watching.settings import WatchSettings
from vqi.platform.errors import BadInput


@dataclass(frozen=True)
class Photograph:
    """One photograph to decide on. `content`: its file, a frame (uint8 [H, W, 3], RGB; of a
    GenICam camera also grey or uint16), or the sentence that says why
    there is none. `at`: seconds since 1970. `key`: what knows it after a restart, "" where it is gone then."""

    name: str
    content: Path | np.ndarray | str
    at: float
    key: str = ""
    trigger: str = ""


class Source(Protocol):
    """Something that photographs come from."""

    # As people read it, without credentials.
    label: str
    # Whether photographs wait while others are decided on; frames are taken when they are needed.
    waits: bool
    # How long to wait after nothing was there, seconds.
    pause: float

    def take(self, most: int) -> list[Photograph]:
        """The next photographs, at most `most`, none twice; [] where there are none at the moment."""
        ...

    def is_unchanged(self, photograph: Photograph) -> bool:
        """Whether what was decided on is still what is there."""
        ...

    def may_grow(self, photograph: Photograph) -> bool:
        """Whether a photograph that cannot be read may still be being written."""
        ...

    def release(self, photographs: Sequence[Photograph]) -> None:
        """What was taken and not decided on may be taken again."""
        ...

    def finish(self, photographs: Sequence[Photograph]) -> None:
        """Their decisions are kept."""
        ...

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more."""
        ...

    def close(self) -> None: ...


class FrameSource:
    """The part of a source whose frames are gone once they are taken: none changes, grows, or can be taken again."""

    waits = False
    pause = 0.0

    def is_unchanged(self, photograph: Photograph) -> bool:
        return True

    def may_grow(self, photograph: Photograph) -> bool:
        return False

    def release(self, photographs: Sequence[Photograph]) -> None: ...

    def finish(self, photographs: Sequence[Photograph]) -> None: ...


def open_source(address: str, settings: WatchSettings, outbox: Outbox) -> Source:
    """The source of an address: `camera:0`, `genicam:SERIAL`, `rtsp(s)://`, `http(s)://`, a video file, or a folder.
    Raises BadInput where it cannot be used."""
    from vqi.deployment.watching.sources.camera import CameraSource
    from vqi.deployment.watching.sources.capture import SCHEMES, is_camera
    from vqi.deployment.watching.sources.folder import FolderSource
    from vqi.deployment.watching.sources.video import VideoSource

    if is_camera(address):
        for name in ("done", "once"):
            if getattr(settings, name):
                raise BadInput(f"--{name} is for folders; {address.partition(':')[0]}: is a camera.")
        return CameraSource(address, settings, sys.stdin.buffer if settings.trigger else None)
    if settings.trigger:
        raise BadInput("--trigger needs a camera; a folder's photographs are decided on as they appear.")
    if "://" in address:
        raise BadInput(f"The source {address.partition('://')[0]}:// is not known; known: {', '.join(SCHEMES)}.")
    path = Path(os.path.abspath(address))
    return VideoSource(path, settings, outbox) if path.is_file() else FolderSource(path, settings, outbox)
