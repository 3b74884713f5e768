"""How both sides of a benchmark are measured: the same code in both processes. Needs numpy, Pillow and torch, and
neither of the two contestants."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import peak_mib, seconds

__all__ = ["peak_mib", "seconds"]
WARM_UP_CALLS = 3
LATENCY_IMAGES = 24
# Calls that the median is of, by batch size.
LATENCY_CALLS = {1: 25, 8: 11}


def median_seconds(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds of each call, `wall` and `processor`, by its name. They take turns, so that whatever else the
    machine does falls on all alike."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for number in range(WARM_UP_CALLS + rounds):
        for name, call in calls.items():
            start, processor = time.perf_counter(), time.process_time()
            call()
            if number >= WARM_UP_CALLS:
                times[name].append((time.perf_counter() - start, time.process_time() - processor))
    return {
        name: dict(zip(("wall", "processor"), map(statistics.median, zip(*rows, strict=True)), strict=True))
        for name, rows in times.items()
    }


def latencies(calls: Mapping[str, Callable[[torch.Tensor], Any]], images: torch.Tensor) -> dict[str, float]:
    """Milliseconds an image of each call on batches of 1 and 8 of `images` [N, 3, H, W]: `NAME_ms_1`,
    `processor_NAME_ms_1` ..."""
    result = {}
    for batch_size in LATENCY_CALLS:
        batch = images[:1].expand(batch_size, -1, -1, -1) if len(images) < batch_size else images[:batch_size]
        with torch.inference_mode():
            medians = median_seconds(
                {name: lambda call=call, batch=batch: call(batch.clone()) for name, call in calls.items()},
                LATENCY_CALLS[batch_size],
            )
        for name, seconds_of in medians.items():
            result[f"{name}_ms_{batch_size}"] = 1000 * seconds_of["wall"] / batch_size
            result[f"processor_{name}_ms_{batch_size}"] = 1000 * seconds_of["processor"] / batch_size
    return result


def write_result(folder: Path, result: dict[str, Any], scores: np.ndarray, maps: np.ndarray) -> None:
    """`result.json`, `scores.npy` float32 [N] and `maps.npy` float32 [N, h, w], in the order of the task's test
    images."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "scores.npy", scores)
    np.save(folder / "maps.npy", maps)
    (folder / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
