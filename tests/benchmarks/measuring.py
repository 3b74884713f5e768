"""How both sides of a benchmark are measured: the same code in both processes. Needs numpy, Pillow and torch, and
neither of the two contestants."""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

WARM_UP_CALLS = 3
LATENCY_IMAGES = 24


@contextmanager
def seconds(result: dict[str, Any], name: str) -> Iterator[None]:
    """Store the wall-clock seconds of the block in `result[name]`, and the processor's in `result["processor_" + name]`:
    other work on the machine changes those less."""
    start, processor = time.perf_counter(), time.process_time()
    yield
    result[name] = time.perf_counter() - start
    result[f"processor_{name}"] = time.process_time() - processor


def peak_mib() -> float:
    """The largest resident size of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def milliseconds_an_image(call: Callable[[torch.Tensor], Any], images: torch.Tensor, batch_size: int) -> float:
    """Median time of `call` on batches of `images` [N, 3, H, W], divided by the images in a batch; ms."""
    batches = [batch for batch in images.split(batch_size) if len(batch) == batch_size]
    with torch.inference_mode():
        for i in range(WARM_UP_CALLS):
            call(batches[i % len(batches)].clone())
        times = []
        for batch in batches * max(1, 12 // len(batches)):
            taken = batch.clone()
            start = time.perf_counter()
            call(taken)
            times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times) / batch_size


def write_result(folder: Path, result: dict[str, Any], scores: np.ndarray, maps: np.ndarray) -> None:
    """`result.json`, `scores.npy` float32 [N] and `maps.npy` float32 [N, h, w], in the order of the task's test
    images."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "scores.npy", scores)
    np.save(folder / "maps.npy", maps)
    (folder / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
