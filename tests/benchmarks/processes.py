"""What a command costs, with all that it starts. Imports no torch."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path


def measure_process(command: Sequence[str], log: Path, allowed: Sequence[int] = (0,)) -> dict[str, float]:
    """Seconds of a command, `wall` and `processor`, and the most memory that one of its processes held (`peak_mib`).

    What it prints goes to the end of `log`. Raises SystemExit where its exit code is not one of `allowed`.
    """
    started = time.perf_counter()
    with open(log, "a") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        _, state, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(state)
    if process.returncode not in allowed:
        raise SystemExit(
            f"{' '.join(command[:3])} ... ended with exit code {process.returncode}:\n{log.read_text()[-4000:]}"
        )
    return {
        "wall": seconds,
        "processor": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
    }
