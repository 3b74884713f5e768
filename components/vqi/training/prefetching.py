"""Batches made ahead of the step that needs them, by a few threads, in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier, Lock
from typing import Generic, TypeVar

import torch

from vqi.platform.threads import decoding_threads

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """`make(step)` for step in [first, last), `depth` of them ahead of the consumer. `waited` is how long the consumer
    stood still, seconds.

    Decoding and tensor operations leave the interpreter's lock, so the threads overlap with the step; one thread of
    torch's own each, or they would take the step's cores.
    """

    def __init__(self, make: Callable[[int], T], first: int, last: int, depth: int = 3, threads: int = 0) -> None:
        self.make, self.first, self.last, self.depth, self.threads = (
            make,
            first,
            last,
            depth,
            threads or decoding_threads(),
        )
        self.waited = 0.0

    def __iter__(self) -> Iterator[T]:
        with ThreadPoolExecutor(self.threads) as pool:
            self._prepare(pool)
            waiting: deque[Future[T]] = deque()
            try:
                for step in range(self.first, self.last):
                    while len(waiting) < self.depth and step + len(waiting) < self.last:
                        waiting.append(pool.submit(self._made, step + len(waiting)))
                    started = time.monotonic()
                    made = waiting.popleft().result()
                    self.waited += time.monotonic() - started
                    yield made
            finally:
                for future in waiting:
                    future.cancel()

    def _prepare(self, pool: ThreadPoolExecutor) -> None:
        """Give every thread one thread of torch's own, while nothing is computed anywhere: setting it resets what the
        whole process shares."""
        threads, ready = torch.get_num_threads(), Barrier(self.threads + 1)

        def prepare() -> None:
            with preparing:
                torch.get_num_threads()  # a thread's first question sets its number to the process's
                torch.set_num_threads(1)
            ready.wait()

        preparing = Lock()
        for _ in range(self.threads):
            pool.submit(prepare)
        ready.wait()
        # The last of them also set what threads begin with that are made later.
        torch.set_num_threads(threads)

    def _made(self, step: int) -> T:
        with torch.no_grad():
            return self.make(step)
