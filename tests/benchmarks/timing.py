"""Seconds and memory of this process, without any other package."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def seconds(result: dict[str, Any], name: str) -> Iterator[None]:
    """Store the seconds of the block by the clock in `result[name]`, and the processor's in `result["processor_" + name]`:
    other work on the machine changes those less."""
    start, processor = time.perf_counter(), time.process_time()
    yield
    result[name] = time.perf_counter() - start
    result[f"processor_{name}"] = time.process_time() - processor


def peak_mib() -> float:
    """The largest resident size of this process so far, MiB (`ru_maxrss` would count the process that started it)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
