"""Progress with an ETA: lines a person can read in a pod's log, at most one every few seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from vqi.platform.logs import logger

log = logger(__name__)

T = TypeVar("T")


class Progress:
    """Count of work done out of `total`, printed as `what 40/200 (20 %), 12 s left` every `every` seconds and at the
    end.

    `begun` units were done before: a run that resumes does not count them in its ETA. Where the `total` is not known
    (None), the line says how many a second. Written to standard error:
    standard output belongs to results. Nothing is printed for work shorter than `every` seconds.
    """

    def __init__(self, what: str, total: int | None, every: float = 5.0, begun: int = 0) -> None:
        self.what, self.total, self.every, self.begun = what, total, every, begun
        self.done = begun
        self.started = self.printed = time.monotonic()

    def advance(self, by: int = 1, note: str = "") -> None:
        """Record `by` more units of work; `note` (for example a loss) is added to the line if one is due."""
        self.done += by
        now = time.monotonic()
        if now - self.printed < self.every:
            return
        self.printed = now
        passed, also = now - self.started, f", {note}" if note else ""
        if self.total is None:
            log.info(f"{self.what} {self.done}, {(self.done - self.begun) / passed:.1f} a second{also}")
            return
        left = passed / max(self.done - self.begun, 1) * max(self.total - self.done, 0)
        share = 100 * self.done / max(self.total, 1)
        log.info(f"{self.what} {self.done}/{self.total} ({share:.0f} %), {left:.0f} s left{also}")


def tracked(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` while printing their progress."""
    if total is None:
        total = len(items) if isinstance(items, Sized) else 0
    progress = Progress(what, total)
    for item in items:
        yield item
        progress.advance()
