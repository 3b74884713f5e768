"""Batches of what the network sees, decoded ahead of the consumer by a few threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby

import numpy as np

from vqi.dataset.geometry import Geometry, to_input
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.platform.threads import decoding_threads


class InputBatches:
    """What the network sees of the samples in order (one image each, or its tiles), as batches of float32
    [n, 3, h, w] in [0, 1]; may be iterated any number of times.

    Pillow decodes and resizes outside the interpreter's lock, so `threads` decoders (0 = two, or one on one CPU)
    overlap with the network; at most two batches wait decoded, or two photographs where one is more.
    """

    def __init__(
        self,
        dataset: Dataset,
        samples: Sequence[Sample],
        geometry: Geometry,
        batch_size: int,
        threads: int = 0,
        numbers: Sequence[int] | None = None,
    ) -> None:
        """`numbers`: which of the images, counted over all samples; None for all."""
        self.dataset, self.samples, self.geometry = dataset, list(samples), geometry
        self.batch_size, self.threads = batch_size, threads or decoding_threads()
        self.numbers = range(len(self.samples) * geometry.inputs) if numbers is None else numbers

    def __len__(self) -> int:
        """The number of images (not of batches)."""
        return len(self.numbers)

    def __iter__(self) -> Iterator[np.ndarray]:
        batch: list[np.ndarray] = []
        for image in self._images():
            batch.append(image)
            if len(batch) == self.batch_size:
                yield np.stack([to_input(image) for image in batch])
                batch = []
        if batch:
            yield np.stack([to_input(image) for image in batch])

    def _images(self) -> Iterator[np.ndarray]:
        """Uint8 [h, w, 3] each."""
        each = self.geometry.inputs
        most = max(2, 2 * self.batch_size // each)
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque[Future[list[np.ndarray]]] = deque()
            try:
                # Of images that follow one another the photograph is decoded once.
                for photograph, numbers in groupby(self.numbers, lambda number: number // each):
                    tiles = [number % each for number in numbers]
                    waiting.append(pool.submit(self._inputs, self.samples[photograph], tiles))
                    if len(waiting) > most:
                        yield from waiting.popleft().result()
                while waiting:
                    yield from waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _inputs(self, sample: Sample, tiles: Sequence[int]) -> list[np.ndarray]:
        inputs = self.dataset.inputs(sample, self.geometry)
        return [inputs[tile] for tile in tiles]
