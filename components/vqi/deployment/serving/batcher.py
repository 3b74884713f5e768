"""Micro-batches: photographs of different requests that are there at the same time go through the graph together.

Decoding runs in threads beside the graph. A photograph waits for others only while some are being decoded, and never
longer than the bound: a client that sends one at a time waits for nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from vqi.deployment.predictor import ImageSource, Prediction, Predictor, PreparedImage, Unreadable
from vqi.deployment.serving.metrics import ModelMetrics


@dataclass
class _Waiting:
    image: PreparedImage
    result: asyncio.Future[Prediction | Unreadable]
    since: float = field(default_factory=time.monotonic)


class MicroBatcher:
    """The queue of one bundle, and what empties it; lives in one event loop.

    `wait` is the longest time a photograph waits for others, seconds. `decoders` are threads that bundles share.
    """

    def __init__(self, predictor: Predictor, wait: float, decoders: ThreadPoolExecutor, metrics: ModelMetrics) -> None:
        self._predictor, self._wait, self._decoders, self._metrics = predictor, wait, decoders, metrics
        self._queue: deque[_Waiting] = deque()
        self._changed = asyncio.Event()
        self._decoding = 0
        self._graph = ThreadPoolExecutor(1, thread_name_prefix="graph")
        self._task = asyncio.create_task(self._run())
        self.seconds_an_image = 0.0
        self._reserved = 0

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """As long as a reservation stands, `close` waits: what asks of this version is answered by it."""
        self._reserved += 1
        try:
            yield
        finally:
            self._reserved -= 1

    async def predict(self, image: ImageSource, number: int = 0) -> Prediction | Unreadable:
        """The result of one photograph. Cancelled, it takes no further room, but for what is in the graph already."""
        loop = asyncio.get_running_loop()
        self._decoding += 1
        try:
            prepared = await loop.run_in_executor(self._decoders, self._predictor.prepare, image, number)
        finally:
            self._decoding -= 1
            self._changed.set()
        if isinstance(prepared, Unreadable):
            return prepared
        waiting = _Waiting(prepared, loop.create_future())
        self._queue.append(waiting)
        return await waiting.result

    async def close(self) -> None:
        """Answer everybody who reserved, then end."""
        while self._reserved:
            await asyncio.sleep(0.01)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._graph.shutdown(wait=True)

    async def _run(self) -> None:
        while True:
            self._queue = deque(waiting for waiting in self._queue if not waiting.result.done())
            if not self._queue:
                self._changed.clear()
                await self._changed.wait()
                continue
            await self._gather()
            batch = [self._queue.popleft() for _ in range(min(self._predictor.photographs, len(self._queue)))]
            await self._answer([waiting for waiting in batch if not waiting.result.done()])

    async def _gather(self) -> None:
        """Wait for photographs that are being decoded, as long as the bound lets the first one wait."""
        latest = self._queue[0].since + self._wait
        while self._decoding and len(self._queue) < self._predictor.photographs:
            remaining = latest - time.monotonic()
            if remaining <= 0:
                return
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), remaining)

    async def _answer(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        started = time.monotonic()
        images = [waiting.image for waiting in batch]
        try:
            results = await asyncio.get_running_loop().run_in_executor(
                self._graph, lambda: list(self._predictor.predict_prepared(images))
            )
        except Exception as error:  # whatever it is, its photographs fail and the server goes on
            _fail(batch, error)
            return
        seconds = time.monotonic() - started
        self.seconds_an_image = seconds / len(batch)
        self._metrics.count_batch(len(batch), seconds)
        for waiting, result in zip(batch, results, strict=True):
            if not waiting.result.done():
                waiting.result.set_result(result)


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.result.done():
            waiting.result.set_exception(error)
