"""Work in processes of its own: each is a Python that loky starts, so that no thread or lock of the process that starts
it can hang in it, and a script that does so needs no `if __name__ == "__main__"`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from vqi.platform.errors import RunFailed
from vqi.platform.memory import KEEPING
from vqi.platform.threads import in_order

T = TypeVar("T")
R = TypeVar("R")

# Seconds after which a process sees that who started it was killed (loky would take half a minute).
_ALONE = 0.5
# Each process computes in one thread.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def in_processes(work: Callable[[T], R], items: Iterable[T], count: int, name: str) -> Iterator[R]:
    """The results of `work` in the order of `items`, by `count` processes; no more than a few wait for who takes them.
    `name` is what a sentence calls the work. All that passes between the processes can be pickled.

    What the work raises is raised here. Raises RunFailed where a process ends before its work does.
    """
    from loky.process_executor import ProcessPoolExecutor

    pool = ProcessPoolExecutor(count, env={**_ONE_THREAD, **KEEPING}, initializer=_end_with, initargs=(os.getpid(),))
    try:
        yield from in_order(pool, work, items, count)
    except BrokenProcessPool as error:
        raise RunFailed(f"A process that {name} was ended, as where memory is short; run this again.") from error
    finally:
        pool.shutdown(kill_workers=True)


def _end_with(parent: int) -> None:
    """End this process once `parent` has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_ALONE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
