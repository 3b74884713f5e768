"""Predictions from a Bundle, without torch: the same preprocessing code as in training, a graph runtime, and thresholds from the sidecar.

Images stream through: decoding overlaps with the graph, at most three batches of inputs are held, originals are not, and results keep the order.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from vqi.dataset.geometry import to_input
from vqi.dataset.images import decode_rgb
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.graph_runtime import open_graph
from vqi.evaluation.box_rule import BoxRule
from vqi.evaluation.pictures import Box, boxes
from vqi.platform.errors import BadInput
from vqi.platform.threads import decoding_threads

# A file is read whole before its header is looked at; the largest photographs (100 megapixels, 16 bit, three channels) take 600 MB.
MAX_FILE_BYTES = 1 << 30

ImageSource = Path | str | np.ndarray


@dataclass(frozen=True)
class Prediction:
    """What was found on one photograph.

    `score` is raw (higher = more anomalous); `decision` is "defect" where it lies above the bundle's image threshold. `map` is float32 [H, W] in the
    photograph's own geometry, NaN where the network saw nothing. `boxes` are (x1, y1, x2, y2, highest map value) of the regions above `level`,
    which the bundle's rule for boxes gives. `seconds` is this image's share of its batch's time in the graph.
    """

    name: str
    score: float
    decision: Literal["good", "defect"]
    map: np.ndarray
    boxes: list[Box]
    level: float
    seconds: float


@dataclass(frozen=True)
class Unreadable:
    """A photograph that could not be predicted, and the sentence that says why."""

    name: str
    reason: str


@dataclass(frozen=True)
class _Input:
    name: str
    pixels: np.ndarray
    original: tuple[int, int]


class Predictor:
    """A bundle, checked and loaded.

    `backend`: `onnxruntime`, `openvino` or `auto` (the faster where both are installed: OpenVINO, measured with PatchCore on ResNet-18).
    `device`: `cpu`, or what the backend has (`cuda` for ONNX Runtime, `gpu` for OpenVINO). `threads`: 0 = the backend's choice. `batch_size`: 0 = as
    many as keep the graph's largest tensor below 512 MiB (with a memory bank that is the distance of every patch to every item), at most 8.
    Raises BadInput where the bundle cannot be used.
    """

    def __init__(self, bundle: Path, backend: str = "auto", device: str = "cpu", threads: int = 0, batch_size: int = 0) -> None:
        if not 0 <= batch_size <= 4096 or not 0 <= threads <= 4096:
            raise BadInput(f"The batch is {batch_size} and the threads are {threads}; each must lie between 0 (a choice of its own) and 4096.")
        self.sidecar = read_sidecar(bundle)
        self.geometry = self.sidecar.geometry
        self.box_rule = BoxRule(self.sidecar.boxes.fraction)
        self.batch_size = batch_size or self.sidecar.graph.batch_size
        self.graph = open_graph(Path(bundle), self.sidecar, backend, device, threads)
        self.threads = threads or decoding_threads(most=4)

    def predict(self, images: Iterable[ImageSource]) -> Iterator[Prediction | Unreadable]:
        """One result an image, in order: files by path, or uint8 RGB arrays [H, W, 3]. A bad image yields Unreadable and the others go on."""
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque[Future[_Input | Unreadable]] = deque()
            numbered = enumerate(images)
            try:
                while True:
                    wanted = 3 * self.batch_size - len(waiting)
                    waiting.extend(pool.submit(self._prepared, number, image) for number, image in islice(numbered, wanted))
                    if not waiting:
                        return
                    batch = [waiting.popleft().result() for _ in range(min(self.batch_size, len(waiting)))]
                    yield from self._predicted(batch)
            finally:
                for future in waiting:
                    future.cancel()

    def _prepared(self, number: int, image: ImageSource) -> _Input | Unreadable:
        name = f"image {number}" if isinstance(image, np.ndarray) else os.fspath(image)
        try:
            pixels = _checked_array(image, name) if isinstance(image, np.ndarray) else read_photograph(Path(image))
            return _Input(name, to_input(self.geometry.apply(pixels)), (pixels.shape[0], pixels.shape[1]))
        except BadInput as error:
            return Unreadable(name, str(error))

    def _predicted(self, batch: list[_Input | Unreadable]) -> Iterator[Prediction | Unreadable]:
        readable = [item for item in batch if isinstance(item, _Input)]
        started = time.perf_counter()
        results: Iterator[tuple[np.float32, np.ndarray]] = iter(())
        if readable:
            scores, maps = self.graph.run(np.stack([item.pixels for item in readable]))
            results = zip(scores, maps, strict=True)
        seconds = (time.perf_counter() - started) / max(len(readable), 1)
        for item in batch:
            if isinstance(item, Unreadable):
                yield item
                continue
            score, values = next(results)
            if not np.isfinite(score):
                # No comparison with a threshold is true of NaN: such an image would pass as good.
                yield Unreadable(item.name, f"{item.name} has the score {score}, which decides nothing; look at the image and export again.")
                continue
            yield self._prediction(item, float(score), values, seconds)

    def _prediction(self, item: _Input, score: float, values: np.ndarray, seconds: float) -> Prediction:
        thresholds = self.sidecar.thresholds
        laid = self.geometry.invert_map(values, item.original)
        decision: Literal["good", "defect"] = "defect" if score > thresholds.image else "good"
        level = self.box_rule.level(laid, decision, thresholds.pixel)
        return Prediction(item.name, score, decision, laid, boxes(laid, level), level, seconds)


def read_photograph(path: Path) -> np.ndarray:
    """Decode a file to RGB, uint8 [H, W, 3]. Raises BadInput where it cannot be read, is no image, or is too large."""
    try:
        if not path.is_file():
            raise BadInput(f"{path} is no file.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadInput(f"{path} has more than {MAX_FILE_BYTES >> 20} MiB; scale it down.")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    return decode_rgb(data, str(path))


def _checked_array(image: np.ndarray, name: str) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise BadInput(f"{name} is {image.dtype} of shape {list(image.shape)}; an array must be uint8 RGB, [height, width, 3].")
    return image
