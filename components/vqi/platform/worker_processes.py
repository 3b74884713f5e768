"""Work of one kind in processes of its own: an item goes to whichever process is free, results come in items' order.

    python3 -m vqi.platform.worker_processes DESCRIPTOR

is such a process: a Python of its own, which imports what the work needs and nothing else. Nothing is forked, so that
no thread or lock of the process that starts it can hang in it. DESCRIPTOR is its end of a socket; it ends when the
other end does, however the process that holds it ended.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from socket import socketpair
from threading import Thread
from typing import Any, TypeVar

from vqi.platform.errors import RunFailed
from vqi.platform.memory import KEEPING

T = TypeVar("T")

# Items that a process has at once, so that it never waits for one; and results that wait for earlier ones, a process.
_EACH, _WAITING = 2, 4
# Seconds that a process gets to end by itself.
_PATIENCE = 5.0
# Each process computes in one thread.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Work:
    """What the processes do: the function `start` (MODULE:FUNCTION) makes, of `setup`, what makes a result of an item;
    `name` is what a sentence calls it. All that passes between the processes can be pickled."""

    start: str
    setup: Any
    name: str

    def begin(self) -> Callable[[Any], Any]:
        """What makes a result of an item, in this process."""
        module, _, function = self.start.partition(":")
        work: Callable[[Any], Any] = getattr(importlib.import_module(module), function)(self.setup)
        return work


def in_processes(work: Work, items: Iterable[T], count: int) -> Iterator[Any]:
    """The results of `work` in the order of `items`, by `count` processes; no more than a few wait for who takes them.

    What the work raises is raised here. Raises RunFailed where a process ends before its work does.
    """
    with ExitStack() as stack:
        workers = [_Worker(work, stack) for _ in range(count)]
        numbered = enumerate(items)
        results: dict[int, Any] = {}
        following, sent, more = 0, 0, True
        while True:
            for worker in sorted(workers, key=lambda worker: len(worker.items)):
                while more and len(worker.items) < _EACH and sent < following + _WAITING * count:
                    number, item = next(numbered, (-1, None))
                    more = number >= 0
                    if more:
                        worker.send(number, item)
                        sent += 1
            while following in results:
                yield results.pop(following)
                following += 1
            if following == sent and not more:
                return
            if following + len(results) == sent:
                continue
            for connection in wait([worker.connection for worker in workers if worker.items]):
                worker = next(worker for worker in workers if worker.connection is connection)
                number, result = worker.receive()
                results[number] = result


class _Worker:
    """A process, our end of its socket, and the numbers of the items that it has."""

    def __init__(self, work: Work, stack: ExitStack) -> None:
        self._work = work
        self.items: list[int] = []
        ours, theirs = socketpair()
        with theirs:
            environment = {
                **os.environ,
                **_ONE_THREAD,
                **KEEPING,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            }
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
            )
        stack.callback(self._end)
        self.connection = stack.enter_context(Connection(ours.detach()))
        self._send(work)

    def send(self, number: int, item: Any) -> None:
        self.items.append(number)
        self._send(item)

    def _send(self, value: Any) -> None:
        try:
            self.connection.send(value)
        except OSError as error:
            raise self._failure() from error

    def receive(self) -> tuple[int, Any]:
        """The number and the result of the item that was sent first."""
        try:
            result, error = self.connection.recv()
        except (EOFError, OSError) as gone:
            raise self._failure() from gone
        if error is not None:
            raise error
        return self.items.pop(0), result

    def _failure(self) -> RunFailed:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        code = self._process.returncode or 0
        how = f"with exit code {code}, and the log says why"
        if code < 0:
            name = signal.Signals(-code).name
            how = f"by the signal {name}" + (", as where memory is short" if code == -signal.SIGKILL else "")
        return RunFailed(f"A process that {self._work.name} was ended {how}; run this again.")

    def _end(self) -> None:
        """Wait for the process, whose socket is closed."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve(connection: Connection) -> None:
    """Do the work that comes over a connection; the process ends when it closes, also where it has an item in hand."""
    values: SimpleQueue[Any] = SimpleQueue()

    def receive() -> None:
        with suppress(EOFError, OSError):
            while True:
                values.put(connection.recv())
        os._exit(0)

    Thread(target=receive, daemon=True).start()
    work = values.get().begin()
    while True:
        item = values.get()
        try:
            answer: tuple[Any, BaseException | None] = work(item), None
        except Exception as error:
            error.add_note(traceback.format_exc())
            answer = None, error
        with suppress(ConnectionError):
            connection.send(answer)


if __name__ == "__main__":
    # A terminal sends it to all of its processes, and the one that started this answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Connection(int(sys.argv[1])) as connection:
        serve(connection)
