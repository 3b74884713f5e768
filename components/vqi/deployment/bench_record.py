"""`vqi-bench/1`: how fast a bundle's graph is on a machine, by format, threads and batch, and the setting that
`vqi serve` takes from it."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from vqi.platform.records import FileRecord, Items, Record, read_record, write_record
from vqi.platform.threads import available_cpus


class Machine(Record):
    """Where it was measured: the processor's name, the processors that this process may use, and how many processes
    were running or waiting for one (load average of a minute) when it began."""

    processor: str
    cpus: int
    load: float


class Setting(Record):
    """One way to run a bundle's graph. `threads` 0: the backend's choice; `batch`: images at once."""

    backend: str
    threads: int = Field(ge=0)
    batch: int = Field(ge=1)


class Timing(Record):
    """What one setting takes: milliseconds a batch by the clock (percentiles of `batches` measured ones), images a
    second, and milliseconds of processor time an image, of all threads together."""

    setting: Setting
    format: str
    precision: str
    batches: int = Field(ge=1)
    p50_ms: float
    p95_ms: float
    p99_ms: float
    images_per_second: float
    processor_ms: float


class NotTimed(Record):
    """A setting that could not be run, and why."""

    setting: Setting
    reason: str


class BenchRecord(FileRecord):
    """The file. `best` has the most images a second of what may be served without a further thought (see `choose`)."""

    format_name: ClassVar[str] = "vqi-bench/1"
    remedy: ClassVar[str] = "measure again (vqi bench --save)"

    bundle: str
    version: str
    device: str
    machine: Machine
    timings: Items[Timing]
    not_timed: Items[NotTimed]
    best: Setting


def machine_in_use() -> Machine:
    """What this process runs on."""
    name = ""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return Machine(processor=name or platform.machine(), cpus=available_cpus(), load=round(os.getloadavg()[0], 2))


def write_bench(path: Path, record: BenchRecord) -> None:
    """Write a measurement."""
    write_record(path, record)


def read_bench(path: Path) -> BenchRecord:
    """The measurement in a file. Raises BadInput where it is missing, damaged or of another format."""
    return read_record(BenchRecord, path, ": it is not a file that vqi bench wrote")
