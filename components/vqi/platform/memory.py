"""How much memory work will take, said before it starts."""

from __future__ import annotations

import ctypes
import logging
import os
from contextlib import suppress
from pathlib import Path

from vqi.platform.logs import logger

log = logger(__name__)

MIB = 2**20
GROUP = Path("/sys/fs/cgroup")
# Bytes that glibc keeps of what was freed, and from which on it takes a part of memory from the kernel for each array;
# the second is the most it allows.
KEPT, LARGE = 32 * MIB, 32 * MIB
# Their names in mallopt (malloc.h), and in the environment of a process that begins.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
KEEPING = {"MALLOC_TRIM_THRESHOLD_": str(KEPT), "MALLOC_MMAP_THRESHOLD_": str(LARGE)}
# Limit and use of a container: control groups v2 and v1.
GROUP_FILES = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def available_memory() -> int:
    """Bytes this process may still take: the machine's free memory, or what is left of the container's limit where that
    is less."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        pass
    for limit, used in GROUP_FILES:
        try:
            free = min(free, int((GROUP / limit).read_text()) - int((GROUP / used).read_text()))
        except (OSError, ValueError):  # no such file outside a container, "max" where there is no limit
            continue
    return max(free, 0)


def memory_limit() -> int:
    """The bytes that this process's container may take; 0 without a limit."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file, _ in GROUP_FILES:
        with suppress(OSError, ValueError):
            limit = int((GROUP / file).read_text())
            # The first version writes a number beyond all memory where there is no limit.
            return limit if limit < total else 0
    return 0


def keep_freed_memory() -> None:
    """Let this process use memory again that it freed: what glibc gives back after every photograph, the next one gets
    page by page, which takes as long as decoding a small one. Nothing happens where the C library is another."""
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, KEPT)
        mallopt(_M_MMAP_THRESHOLD, LARGE)


def announce(what: str, size: int) -> None:
    """Log that `what` will take about `size` bytes, and warn where that is more than there is."""
    free = available_memory()
    warning = f", more than the {free / MIB:.0f} MiB that are free: it may be killed" if size > free else ""
    log.log(
        logging.WARNING if size > free else logging.INFO,
        f"{what}: about {max(size / MIB, 1):.0f} MiB of memory{warning}",
    )
