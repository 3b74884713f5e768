"""What surrounds every step: errors become one sentence and an exit code, and the step says how long it took and what
memory it needed."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vqi.platform.certificates import trust_mounted_certificates
from vqi.platform.errors import VqiError
from vqi.platform.logs import logger, of_step, versions
from vqi.platform.system_errors import system_error
from vqi.platform.threads import available_cpus, follow_cpu_limit, thread_limit
from vqi.steps.reports import Facts, Reporter, StepReport

log = logger(__name__)


class Step:
    """What a step reports about itself beyond its artefacts; `outputs` maps an output's name to where it lies."""

    def __init__(self, started: float) -> None:
        self.outputs: dict[str, str] = {}
        self.facts: dict[str, Any] = {}
        self._started = started

    @property
    def seconds(self) -> float:
        """How long the step has been at work."""
        return round(time.monotonic() - self._started, 3)


@contextmanager
def step(name: str) -> Iterator[Step]:
    """Run a step's body. A VqiError or an OSError ends the process with its sentence on standard error and its exit
    code; anything else keeps its traceback."""
    with of_step(name), _reported(name) as record:
        yield record


@contextmanager
def _reported(name: str) -> Iterator[Step]:
    started = time.monotonic()
    # Before the body imports what reads these.
    follow_cpu_limit()
    trust_mounted_certificates()
    record = Step(started)
    reporter = Reporter.of_process()
    reporter.write(StepReport(step=name, state="running"))
    try:
        log.debug(f"{name} begins, CPUs: {available_cpus()}, threads: {thread_limit() or 'all'}")
        yield record
    except (VqiError, OSError) as error:
        failure = error if isinstance(error, VqiError) else system_error(error)
        log.error(f"vqi {name}: {failure}")
        with contextlib.suppress(OSError):  # the disk may be what failed
            reporter.write(_failure(name, str(failure), started, failure.exit_code, record.outputs))
        sys.exit(failure.exit_code)
    except MemoryError:
        sentence = "out of memory; use a smaller compute.batch_size or image.size, or a node with more memory"
        log.error(f"vqi {name}: {sentence}")
        reporter.write(_failure(name, sentence, started))
        sys.exit(1)
    except Exception as error:
        log.error("", exc_info=True)
        sentence = f"{name} met an error of its own ({type(error).__name__}: {error}); the traceback is in its log"
        reporter.write(_failure(name, sentence, started))
        sys.exit(1)
    for output, path in record.outputs.items():
        log.debug(f"{output}: {path}")
    if log.isEnabledFor(logging.DEBUG):
        log.debug(versions())
    seconds, memory = record.seconds, round(peak_mib(), 1)
    log.info(f"vqi {name}: {seconds:.1f} s, peak {memory:.0f} MiB")
    reporter.write(
        StepReport(
            step=name,
            state="succeeded",
            seconds=seconds,
            peak_mib=memory,
            outputs=record.outputs,
            facts=Facts(**record.facts),
        )
    )


def peak_mib() -> float:
    """The most memory this process has held, MiB (VmHWM; a child's `ru_maxrss` would include its parent's on Linux)."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024 * 1024)


def _failure(
    name: str, error: str, started: float, exit_code: int = 1, outputs: dict[str, str] | None = None
) -> StepReport:
    return StepReport(
        step=name,
        state="failed",
        error=error,
        exit_code=exit_code,
        seconds=round(time.monotonic() - started, 3),
        peak_mib=round(peak_mib(), 1),
        outputs=outputs,
    )
