"""A thread a sink that hands it what waits in the outbox, in order, as long as it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from vqi.deployment.watching.outbox import Outbox, Pending
from vqi.deployment.watching.sinks import Sink, SinkAway, SinkRefused
from vqi.platform.logs import logger

log = logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE, LAST_PAUSE = 0.5, 60.0, 0.2
IDLE_SECONDS = 0.5


class Delivery:
    """Delivers to one sink from `start` on. `failure` is what ended it otherwise than by `finish`.

    `on_failure` is called for each attempt that failed.
    """

    def __init__(self, sink: Sink, outbox: Outbox, on_failure: Callable[[str], None] | None = None) -> None:
        self.sink, self._outbox, self._on_failure = sink, outbox, on_failure or (lambda name: None)
        self.failure: BaseException | None = None
        self._finishing = threading.Event()
        self._deadline = 0.0
        self._failed = 0
        self._thread = threading.Thread(target=self._run, name=f"delivery to {sink.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self, deadline: float) -> None:
        """Deliver what is left until `deadline` (of time.monotonic), then end; `join` waits for that."""
        self._deadline = deadline
        self._finishing.set()

    def join(self) -> None:
        self._thread.join(max(0.0, self._deadline - time.monotonic()) + LAST_PAUSE)
        if not self._thread.is_alive():
            self.sink.close()

    def _run(self) -> None:
        try:
            while not (self._finishing.is_set() and time.monotonic() >= self._deadline):
                pending = self._outbox.next(self.sink.name, IDLE_SECONDS if not self._finishing.is_set() else 0)
                if pending:
                    self._deliver(pending)
                elif self._finishing.is_set():
                    return
        except BaseException as error:
            self.failure = error

    def _deliver(self, pending: Pending) -> None:
        try:
            self.sink.deliver(pending)
        except SinkRefused as error:
            log.warning(f"{self.sink.name} refuses decision {pending.id} ({error}); it is kept in the state folder.")
            self._outbox.confirm(self.sink.name, pending, str(error))
        except (SinkAway, OSError) as error:
            self._pause(error)
        else:
            self._outbox.confirm(self.sink.name, pending)
            if self._failed:
                log.warning(f"{self.sink.name} takes decisions again.")
            self._failed = 0

    def _pause(self, error: SinkAway | OSError) -> None:
        if not self._failed:
            reason = getattr(error, "strerror", None) or str(error)
            log.warning(f"{self.sink.name} takes no decisions ({reason}); they are kept until it does.")
        self._failed += 1
        self._on_failure(self.sink.name)
        if self._finishing.is_set():
            time.sleep(LAST_PAUSE)
            return
        after = error.after if isinstance(error, SinkAway) else 0.0
        self._finishing.wait(max(after, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failed - 1, 10))))
