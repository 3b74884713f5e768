"""Progress with an ETA: lines a person can read in a pod's log, at most one every few seconds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from vqi.platform.logs import logger

log = logger(__name__)

T = TypeVar("T")

# The seconds, or the share of the time passed where that is longer, whose speed says what is left: work begins slower
# than it goes on, and other work on a machine begins and ends. And into how many parts they are cut.
_RECENT, _SHARE, _PARTS = 5.0, 0.5, 128
_MANY = 100


class Progress:
    """Count of work done out of `total`, printed as `what 40/200 (20 %), 12 s left` every `every` seconds and at the
    end.

    The seconds left follow from the speed of the latest half of the time. `begun` units were done before: a run that
    resumes does not count them in its ETA. Where the `total` is not known (None), the line says how many a second.
    `clock` gives seconds. Written to standard error: standard output belongs to results. Nothing is printed for work
    shorter than `every` seconds.
    """

    def __init__(
        self,
        what: str,
        total: int | None,
        every: float = 5.0,
        begun: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what, self.total, self.every, self.begun = what, total, every, begun
        self.done, self._clock = begun, clock
        self.started = self.printed = clock()
        # When how much was done, the first of them where the time begins whose speed counts.
        self._moments = deque([(self.started, begun)])

    def advance(self, by: int = 1, note: str = "") -> None:
        """Record `by` more units of work; `note` (for example a loss) is added to the line if one is due."""
        self.done += by
        now = self._clock()
        recent = max(_RECENT, _SHARE * (now - self.started))
        while len(self._moments) > 1 and self._moments[1][0] <= now - recent:
            self._moments.popleft()
        then, before = self._moments[0]
        if now - self._moments[-1][0] >= recent / _PARTS:
            self._moments.append((now, self.done))
        if now - self.printed < self.every:
            return
        self.printed = now
        also = f", {note}" if note else ""
        if self.total is None:
            speed = (self.done - self.begun) / max(now - self.started, 1e-9)
            log.info(f"{self.what} {self.done}, {speed:.1f} a second{also}")
            return
        share = 100 * self.done / max(self.total, 1)
        # The first unit of many takes what begins the work too: its speed says nothing.
        if self.done - before > 1 or self.total - self.begun < _MANY:
            left = (now - then) / max(self.done - before, 1) * max(self.total - self.done, 0)
            also = f", {left:.0f} s left{also}"
        log.info(f"{self.what} {self.done}/{self.total} ({share:.0f} %){also}")


def tracked(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` while printing their progress."""
    if total is None:
        total = len(items) if isinstance(items, Sized) else 0
    progress = Progress(what, total)
    for item in items:
        yield item
        progress.advance()
