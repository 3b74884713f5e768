"""Measure a bundle's graph: every setting in turns, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vqi.dataset.geometry import to_input
from vqi.deployment.bench_record import BenchRecord, Machine, NotTimed, Setting, Timing
from vqi.deployment.bundle import bundle_version, read_sidecar
from vqi.deployment.exports import export_formats, preferred
from vqi.deployment.golden import check_golden, read_golden
from vqi.deployment.graph_runtime import GraphRuntime, open_graph
from vqi.deployment.sidecar import MAX_BATCH, Sidecar
from vqi.platform.errors import BadInput, RunFailed, VqiError
from vqi.platform.progress import Progress
from vqi.platform.threads import available_cpus

WARM_UP = 3
# Of each setting at least so many batches, however long they take, and at most so many.
FEWEST, MOST = 5, 2000
MOST_THREADS, LARGEST_BATCH = 4096, 4096


@dataclass
class _Run:
    """One setting, opened, and what was measured of it: seconds by the clock and of the processor, a batch each."""

    setting: Setting
    graph: GraphRuntime
    images: np.ndarray
    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def once(self) -> None:
        clock, processor = time.perf_counter(), time.process_time()
        self.graph.run(self.images)
        self.clock.append(time.perf_counter() - clock)
        self.processor.append(time.process_time() - processor)

    @property
    def ended(self) -> bool:
        return len(self.clock) >= MOST


def measure(
    folder: Path,
    machine: Machine,
    *,
    backends: Sequence[str] = (),
    threads: Sequence[int] = (),
    batches: Sequence[int] = (),
    device: str = "cpu",
    seconds: float = 2.0,
    latency_ms: float | None = None,
) -> BenchRecord:
    """Measure the graph of the bundle `folder` for about `seconds` a setting, on its golden photographs.

    Settings are every one of `backends` (none: all inside that can run here and are not opened by name alone) with each
    of `threads` (none: 1 and all processors) and `batches` (none: 1 and the most that the bundle's memory bound allows,
    8 at most). What is measured is the graph, from its input to scores and maps: decoding comes before it. Every graph
    scores the golden photographs as its sidecar says, or is not timed. With `latency_ms` the best setting's 95th
    percentile keeps that bound.

    Raises BadInput where the bundle or a choice cannot be used, RunFailed where no setting could be run, or none keeps
    the bound.
    """
    sidecar = read_sidecar(folder)
    version = bundle_version(folder)
    settings = _settings(folder, sidecar, backends, threads, batches, seconds)
    images = _images(folder, sidecar)
    runs, not_timed = _open(folder, sidecar, settings, images, device)
    _measure(runs, not_timed, seconds)
    timings = tuple(_timing(run, sidecar) for run in runs if run.clock)
    if not timings:
        raise RunFailed(f"No setting could be run: {not_timed[0].reason}")
    return BenchRecord(
        bundle=sidecar.name,
        version=version,
        device=device,
        machine=machine,
        timings=timings,
        not_timed=tuple(not_timed),
        best=choose(timings, sidecar, named=bool(backends), latency_ms=latency_ms),
    )


def choose(timings: Sequence[Timing], sidecar: Sidecar, named: bool, latency_ms: float | None = None) -> Setting:
    """The setting with the most images a second whose 95th percentile keeps `latency_ms`; of two within 3 %, the one
    with less processor time.

    Formats whose thresholds are not known to hold what they promise are chosen where backends were `named` alone.
    Raises RunFailed where none keeps the bound.
    """
    kept = [timing for timing in timings if latency_ms is None or timing.p95_ms <= latency_ms]
    if not kept:
        quickest = min(timing.p95_ms for timing in timings)
        raise RunFailed(f"No setting keeps a 95th percentile of {latency_ms:g} ms: the quickest has {quickest:.1f} ms.")
    sure = [timing for timing in kept if named or _promises(sidecar, timing.format)] or kept
    most = max(timing.images_per_second for timing in sure)
    near = [timing for timing in sure if timing.images_per_second >= 0.97 * most]
    return min(near, key=lambda timing: timing.processor_ms).setting


def _promises(sidecar: Sidecar, name: str) -> bool:
    entry = sidecar.formats[name]
    return entry.accuracy is None or entry.own is not None


def _settings(
    folder: Path,
    sidecar: Sidecar,
    backends: Sequence[str],
    threads: Sequence[int],
    batches: Sequence[int],
    seconds: float,
) -> list[Setting]:
    if not 0 < seconds <= 3600:
        raise BadInput(f"The time for a setting is {seconds:g} s; it must lie above 0 and at most at 3600.")
    if wrong := next((number for number in threads if not 0 <= number <= MOST_THREADS), None):
        raise BadInput(f"{wrong} threads cannot be run; name 0 (the backend's choice) to {MOST_THREADS}.")
    if (wrong := next((number for number in batches if not 1 <= number <= LARGEST_BATCH), None)) is not None:
        raise BadInput(f"A batch of {wrong} cannot be run; name 1 to {LARGEST_BATCH}.")
    known = export_formats()
    inside = preferred([known[name] for name in sidecar.formats if name in known])
    usable = [one.backend for one in inside if not one.by_name_alone and not one.missing_to_open()]
    chosen = list(dict.fromkeys(backends or usable))
    if not chosen:
        raise BadInput(
            f"Nothing here runs a format of the bundle {folder} unless it is named; name one with --backend."
        )
    counts = list(dict.fromkeys(threads or (1, available_cpus())))
    sizes = list(dict.fromkeys(batches or (1, min(MAX_BATCH, sidecar.graph.batch_size))))
    return [
        Setting(backend=backend, threads=count, batch=size) for backend in chosen for count in counts for size in sizes
    ]


def _images(folder: Path, sidecar: Sidecar) -> np.ndarray:
    """Float32 [n, 3, h, w]: the golden photographs, or one of random greys in a bundle that has none."""
    height, width = sidecar.graph.input_size
    if sidecar.golden is None:
        grey = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
        return to_input(grey)
    return to_input(read_golden(folder, len(sidecar.golden.scores["float32"]), (height, width)))


def _open(
    folder: Path, sidecar: Sidecar, settings: Sequence[Setting], images: np.ndarray, device: str
) -> tuple[list[_Run], list[NotTimed]]:
    """Every setting warmed up; a graph is opened once for all its batches. Raises BadInput where a backend that is
    named is not inside or not installed."""
    graphs: dict[tuple[str, int], GraphRuntime] = {}
    runs, not_timed = list[_Run](), list[NotTimed]()
    for setting in settings:
        key = setting.backend, setting.threads
        try:
            if key not in graphs:
                graph = open_graph(folder, sidecar, setting.backend, device, setting.threads)
                check_golden(folder, sidecar, graph)
                graphs[key] = graph
            run = _Run(setting, graphs[key], images[np.arange(setting.batch) % len(images)])
            for _ in range(WARM_UP):
                run.once()
        except BadInput:
            raise
        except VqiError as error:
            not_timed.append(NotTimed(setting=setting, reason=str(error)))
            continue
        run.clock, run.processor = [], []
        runs.append(run)
    return runs, not_timed


def _measure(runs: list[_Run], not_timed: list[NotTimed], seconds: float) -> None:
    """One batch of every setting, again and again, until each had its time."""
    if not runs:
        return
    total = seconds * len(runs)
    progress, started, reported = Progress("measured, seconds", round(total)), time.monotonic(), 0
    while True:
        for run in list(runs):
            if run.ended:
                continue
            try:
                run.once()
            except VqiError as error:
                not_timed.append(NotTimed(setting=run.setting, reason=str(error)))
                runs.remove(run)
        passed = time.monotonic() - started
        progress.advance(min(int(passed), round(total)) - reported)
        reported = min(int(passed), round(total))
        if all(run.ended for run in runs):
            return
        if passed >= total and all(len(run.clock) >= FEWEST for run in runs):
            return


def _timing(run: _Run, sidecar: Sidecar) -> Timing:
    name = next(name for name, entry in sidecar.formats.items() if entry.backend == run.graph.backend)
    milliseconds = 1000 * np.array(run.clock)
    p50, p95, p99 = (round(float(value), 3) for value in np.percentile(milliseconds, (50, 95, 99)))
    images = len(run.clock) * run.setting.batch
    return Timing(
        setting=run.setting,
        format=name,
        precision=sidecar.formats[name].precision,
        batches=len(run.clock),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        images_per_second=round(images / sum(run.clock), 2),
        processor_ms=round(1000 * sum(run.processor) / images, 3),
    )
