"""Batches of what the network sees, decoded ahead of the consumer by a few threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from vqi.dataset.geometry import Geometry, to_input
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.platform.threads import decoding_threads


class InputBatches:
    """The samples in order, as batches of float32 [n, 3, h, w] in [0, 1]; may be iterated any number of times.

    Pillow decodes and resizes outside the interpreter's lock, so `threads` decoders (0 = two, or one on one CPU)
    overlap with the network; at most two batches wait decoded.
    """

    def __init__(
        self, dataset: Dataset, samples: Sequence[Sample], geometry: Geometry, batch_size: int, threads: int = 0
    ) -> None:
        self.dataset, self.samples, self.geometry = dataset, list(samples), geometry
        self.batch_size, self.threads = batch_size, threads or decoding_threads()

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque[Future[np.ndarray]] = deque()
            try:
                for sample in self.samples:
                    waiting.append(pool.submit(self._input, sample))
                    if len(waiting) >= 3 * self.batch_size:
                        yield np.stack([waiting.popleft().result() for _ in range(self.batch_size)])
                while waiting:
                    yield np.stack([waiting.popleft().result() for _ in range(min(self.batch_size, len(waiting)))])
            finally:
                for future in waiting:
                    future.cancel()

    def _input(self, sample: Sample) -> np.ndarray:
        return to_input(self.dataset.input(sample, self.geometry))
