"""Photographs inspected in batches, in threads of this process or in processes of their own: what is computed is the
same to the bit, however many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from vqi.dataset.decoding import Decoding
from vqi.dataset.description import SIDE, describe_all
from vqi.dataset.extents import Extent, ShardReader
from vqi.dataset.image_inspection import ImageInspection, inspect_photograph
from vqi.dataset.inspection_rows import encode_row
from vqi.platform.errors import BadInput
from vqi.platform.memory import keep_freed_memory
from vqi.platform.threads import decoding_threads, in_threads, one_blas_thread, worker_count
from vqi.platform.worker_processes import in_processes

# What a photograph costs: seconds, and seconds a pixel (JPEG). A batch holds as many as take so long, and processes
# begin where all take longer than they need to begin.
_SECONDS, _SECONDS_A_PIXEL = 6e-4, 4e-9
_BATCH_SECONDS, _MOST_IN_BATCH = 0.05, 32
WORTH_PROCESSES = 2.0


@dataclass(frozen=True)
class Request:
    """A photograph that lies in a shard: its hash, its path in the source, where its bytes lie, how many pixels it
    has, whether it gets a description, and whether what is described of it is returned as well."""

    sha256: str
    path: str
    extent: Extent
    pixels: int
    described: bool
    pictured: bool

    @property
    def seconds(self) -> float:
        """About how long inspecting it takes."""
        return _SECONDS + _SECONDS_A_PIXEL * self.pixels


@dataclass(frozen=True)
class Answer:
    """The row of a photograph (`inspection_rows`), and what is described of it, RGB of SIDE x SIDE, where that was
    requested."""

    row: bytes
    picture: bytes | None

    @property
    def image(self) -> Image.Image | None:
        return None if self.picture is None else Image.frombytes("RGB", (SIDE, SIDE), self.picture)


def inspect_all(folder: Path, requests: Sequence[Request], decoding: Decoding) -> Iterator[Answer | None]:
    """What each photograph in the shards of `folder` is, in order; None where it cannot be decoded.

    Raises RunFailed where a process that inspects is ended.
    """
    work = partial(_inspect_batch, Path(folder), decoding)
    batches = list(_batches(requests))
    processes = min(worker_count(), len(batches))
    if processes > 1 and sum(request.seconds for request in requests) > WORTH_PROCESSES:
        results = in_processes(work, batches, processes, "inspects photographs")
    else:
        keep_freed_memory()
        results = in_threads(work, batches, decoding_threads())
    with one_blas_thread():
        for batch in results:
            yield from batch


def _inspect_batch(folder: Path, decoding: Decoding, batch: Sequence[Request]) -> list[Answer | None]:
    inspections: list[tuple[ImageInspection, Image.Image] | None] = []
    with ShardReader(folder) as shards:
        for request in batch:
            try:
                inspected = inspect_photograph(shards.read(request.extent), request.path, decoding, False)
            except BadInput:
                inspections.append(None)
            else:
                # Without the pixels: a batch of them is large.
                inspections.append((inspected.image, inspected.picture))
    chosen = [at for at, item in enumerate(inspections) if item and batch[at].described]
    pictures = [item[1] for at in chosen if (item := inspections[at])]
    descriptions: dict[int, np.ndarray] = dict(zip(chosen, describe_all(pictures), strict=True))
    answers: list[Answer | None] = []
    for at, (request, item) in enumerate(zip(batch, inspections, strict=True)):
        if item is None:
            answers.append(None)
            continue
        image, picture = item
        row = encode_row(request.sha256, replace(image, description=descriptions.get(at)))
        answers.append(Answer(row, picture.tobytes() if request.pictured else None))
    return answers


def _batches(requests: Sequence[Request]) -> Iterator[list[Request]]:
    batch: list[Request] = []
    seconds = 0.0
    for request in requests:
        batch.append(request)
        seconds += request.seconds
        if seconds >= _BATCH_SECONDS or len(batch) == _MOST_IN_BATCH:
            yield batch
            batch, seconds = [], 0.0
    if batch:
        yield batch
