"""Predictions from a Bundle, without torch: the same preprocessing code as in training, a graph runtime, and thresholds
from the sidecar.

Images stream through: decoding overlaps with the graph, at most three batches of inputs are held, originals are not,
and results keep the order.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from vqi.dataset.alignment import AS_IT_IS, Alignment
from vqi.dataset.decoding import DEFAULT, Decoding
from vqi.dataset.geometry import to_input
from vqi.dataset.image_statistics import image_statistics, implausible_sentence
from vqi.dataset.images import decode_rgb
from vqi.dataset.scaling import scale_floats
from vqi.dataset.tiling import united
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.chosen_threshold import with_threshold
from vqi.deployment.graph_runtime import open_graph
from vqi.evaluation.box_rule import BoxRule
from vqi.evaluation.pictures import Box, boxes
from vqi.evaluation.predictions import BundleDecision, Decision
from vqi.platform.errors import BadInput
from vqi.platform.threads import decoding_threads

# A file is read whole before its header is looked at; the largest photographs (100 megapixels, 16 bit, three channels)
# take 600 MB.
MAX_FILE_BYTES = 1 << 30

# What brings the bytes of a file when they are wanted; raises BadInput where it cannot.
Opener = Callable[[], bytes]
# A file by its path, the bytes of a file, or a frame in memory; the last two with a name of their own or numbered. What
# an Opener brings always has one.
ImageSource = Path | str | bytes | np.ndarray | tuple[str, np.ndarray | bytes | Opener]
# What becomes of a photograph that cannot be one of the set: its decision is "implausible", or that of its score.
Implausible = Literal["refuse", "score"]


@dataclass(frozen=True)
class Prediction:
    """What was found on one photograph.

    `score` is raw (higher = more anomalous); `decision` is "defect" where it lies above the bundle's image threshold.
    `map` is float32 [H, W] in the photograph's own geometry, NaN where the network saw nothing. `boxes` are (x1, y1,
    x2, y2, highest map value) of the regions above `level`, which the bundle's rule for boxes gives. `seconds` is this
    image's share of its batch's time in the graph. `unaligned` is the sentence that says why the photograph was used as
    it lies though the bundle aligns, "" where it was aligned, or none are. `implausible` is the sentence that says why
    the photograph cannot be one of the set, "" where it can.
    """

    name: str
    score: float
    decision: BundleDecision
    map: np.ndarray
    boxes: list[Box]
    level: float
    seconds: float
    implausible: str = ""
    unaligned: str = ""

    @property
    def mask(self) -> np.ndarray:
        """What is marked, bool [H, W]: where the map lies above `level`."""
        return self.map > self.level


@dataclass(frozen=True)
class Unreadable:
    """A photograph that could not be predicted, and the sentence that says why."""

    name: str
    reason: str


@dataclass(frozen=True)
class PreparedImage:
    """A photograph before the graph. `images`: what the network sees of it, uint8 [T, h, w, 3], a tile each or one
    whole; `original`: its height and width."""

    name: str
    images: np.ndarray
    original: tuple[int, int]
    implausible: str
    alignment: Alignment


class Predictor:
    """A bundle, checked and loaded.

    `backend`: `onnxruntime`, `openvino`, that of another export format in the bundle, or `auto` (of those that can run
    here the fastest: OpenVINO, measured with PatchCore on ResNet-18). `device`: `cpu`, or what the backend has (`cuda`
    for ONNX Runtime, `gpu` for OpenVINO).
    `threads`: 0 = the backend's choice. `batch_size`: 0 = as many as keep the graph's largest tensor below 512 MiB
    (with a memory bank that is the distance of every patch to every item), at most 8. `false_reject_rate` or
    `threshold` (of the image score) replaces the thresholds that the bundle was exported with; `sidecar` then holds the
    new ones and what they promise. `implausible`: what becomes of a photograph that cannot be one of the set. Raises
    BadInput where the bundle cannot be used, or an argument.
    """

    def __init__(
        self,
        bundle: Path | str,
        backend: str = "auto",
        device: str = "cpu",
        threads: int = 0,
        batch_size: int = 0,
        *,
        false_reject_rate: float | None = None,
        threshold: float | None = None,
        implausible: Implausible = "refuse",
    ) -> None:
        if not 0 <= batch_size <= 4096 or not 0 <= threads <= 4096:
            raise BadInput(
                f"The batch is {batch_size} and the threads are {threads}; each must lie between 0 (a choice of its "
                "own) and 4096."
            )
        if implausible not in get_args(Implausible):
            raise BadInput(f"implausible is {implausible!r}; it must be refuse or score.")
        self.implausible = implausible
        sidecar = read_sidecar(Path(bundle))
        self.graph = open_graph(Path(bundle), sidecar, backend, device, threads)
        self.sidecar = with_threshold(sidecar.for_backend(self.graph.backend), false_reject_rate, threshold)
        self.ranges = self.sidecar.plausibility.limits
        self.geometry = self.sidecar.geometry
        self.reference = self.sidecar.reference
        self.box_rule = BoxRule(self.sidecar.boxes.fraction)
        self.batch_size = batch_size or self.sidecar.graph.batch_size
        # Of photographs, which may be several tiles each.
        self.photographs = max(1, self.batch_size // self.geometry.inputs)
        self.threads = threads or decoding_threads(most=4)

    def predict(self, images: Iterable[ImageSource | Unreadable]) -> Iterator[Prediction | Unreadable]:
        """One result an image, in order: files by path or as bytes, or arrays (see `pixels_of`), or `Photographs` of
        folders, stores and addresses. A bad image yields Unreadable and the others go on.

        Up to three batches of images are taken before the first result is there; a camera whose frames are waited for
        is served by `predict_one`.
        """
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque[Future[PreparedImage | Unreadable]] = deque()
            numbered = enumerate(images)
            try:
                while True:
                    wanted = 3 * self.photographs - len(waiting)
                    waiting.extend(
                        pool.submit(self.prepare, image, number) for number, image in islice(numbered, wanted)
                    )
                    if not waiting:
                        return
                    batch = [waiting.popleft().result() for _ in range(min(self.photographs, len(waiting)))]
                    yield from self.predict_prepared(batch)
            finally:
                for future in waiting:
                    future.cancel()

    def predict_one(self, image: ImageSource) -> Prediction | Unreadable:
        """The result of one image, before the next is there."""
        return next(self.predict_prepared([self.prepare(image)]))

    def prepare(self, image: ImageSource | Unreadable, number: int = 0) -> PreparedImage | Unreadable:
        """Decode an image to what the network sees of it; `number` names what has no name. Threads may share this."""
        if isinstance(image, Unreadable):
            return image
        name, source = image if isinstance(image, tuple) else (f"image {number}", image)
        try:
            decoding = self.sidecar.decoding
            if isinstance(source, np.ndarray):
                pixels = pixels_of(source, name, decoding)
            elif isinstance(source, bytes):
                pixels = decode_rgb(source, name, decoding)
            elif callable(source):
                pixels = decode_rgb(source(), name, decoding)
            elif isinstance(source, (str, os.PathLike)):
                name = os.fspath(source)
                pixels = read_photograph(Path(source), decoding)
            else:
                raise BadInput(
                    f"{name} is a {type(source).__name__}; give the path or the bytes of a file, an array, or a name "
                    "and one of the last two."
                )
            alignment = self.reference.align(pixels) if self.reference else AS_IT_IS
            aligned = self.reference.apply(alignment, pixels) if self.reference else pixels
            original, seen = (pixels.shape[0], pixels.shape[1]), self.geometry.apply(aligned)
            reason = implausible_sentence(
                name, image_statistics(seen, original), self.ranges, self.sidecar.plausibility.images
            )
            return PreparedImage(name, self.geometry.cut(seen), original, reason, alignment)
        except BadInput as error:
            return Unreadable(name, str(error))

    def predict_prepared(self, batch: Sequence[PreparedImage | Unreadable]) -> Iterator[Prediction | Unreadable]:
        """One result an image, in order, of what `prepare` made; one thread at a time."""
        readable = [item for item in batch if isinstance(item, PreparedImage)]
        started = time.perf_counter()
        images = [image for item in readable for image in item.images]
        results = iter(list(united(self._scored(images), self.geometry.tiling)))
        seconds = (time.perf_counter() - started) / max(len(readable), 1)
        for item in batch:
            if isinstance(item, Unreadable):
                yield item
                continue
            score, values = next(results)
            if not np.isfinite(score):
                # No comparison with a threshold is true of NaN: such an image would pass as good.
                yield Unreadable(
                    item.name,
                    f"{item.name} has the score {score}, which decides nothing; look at the image and export again.",
                )
                continue
            yield self._prediction(item, float(score), values, seconds)

    def _scored(self, images: Sequence[np.ndarray]) -> Iterator[tuple[float, np.ndarray]]:
        """Score and map of each of `images`, uint8 [h, w, 3]."""
        for start in range(0, len(images), self.batch_size):
            scores, maps = self.graph.run(to_input(np.stack(images[start : start + self.batch_size])))
            yield from zip(scores.tolist(), maps, strict=True)

    def _prediction(self, item: PreparedImage, score: float, values: np.ndarray, seconds: float) -> Prediction:
        thresholds = self.sidecar.thresholds
        whole = item.alignment.invert_map(self.geometry.invert_map(values, item.original))
        scored: Decision = "defect" if score > thresholds.image else "good"
        level = self.box_rule.level(whole, scored, thresholds.pixel)
        decision: BundleDecision = "implausible" if item.implausible and self.implausible == "refuse" else scored
        failed = self.reference is not None and item.alignment.matrix is None
        reason = f"{item.name} could not be aligned, and was used as it is: {item.alignment.reason}."
        return Prediction(
            item.name,
            score,
            decision,
            whole,
            boxes(whole, level),
            level,
            seconds,
            item.implausible,
            reason if failed else "",
        )


def read_photograph(path: Path, decoding: Decoding = DEFAULT) -> np.ndarray:
    """Decode a file to RGB, uint8 [H, W, 3]. Raises BadInput where it cannot be read, is not an image, or is too
    large."""
    try:
        if not path.is_file():
            raise BadInput(f"{path} is not a file.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadInput(f"{path} has more than {MAX_FILE_BYTES >> 20} MiB; scale it down.")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    return decode_rgb(data, str(path), decoding)


def pixels_of(image: np.ndarray, name: str, decoding: Decoding = DEFAULT) -> np.ndarray:
    """A frame in memory as RGB, uint8 [H, W, 3]: what a file that holds the same values is decoded to.

    Grey ([H, W] or [H, W, 1]) is repeated, RGB ([H, W, 3]) taken as it is; uint16 is scaled by the white level of
    `decoding`, floating-point values by its range, bool is black and white. Raises BadInput for any other type or
    shape.
    """
    shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))
    floating = image.dtype in (np.float16, np.float32, np.float64)
    if not shaped or not (floating or image.dtype in (np.uint8, np.uint16, np.bool_)) or 0 in image.shape:
        raise BadInput(
            f"{name} is {image.dtype} of shape {list(image.shape)}; an array must be uint8, uint16, bool or floating, "
            "[height, width] or [height, width, 1] for grey or [height, width, 3] for RGB."
        )
    if image.shape[0] * image.shape[1] > decoding.max_pixels:
        most = f"{decoding.max_pixels / 1e6:.0f} megapixels"
        raise BadInput(f"{name} has {image.shape[1]} x {image.shape[0]} pixels, more than {most}; scale it down.")
    values = image.reshape(*image.shape[:2], -1)
    if floating:
        return scale_floats(values, name, decoding).pixels
    if values.dtype == np.uint16:
        values = (values.astype(np.int64) * 255 // decoding.white_level).clip(0, 255).astype(np.uint8)
    elif values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))
