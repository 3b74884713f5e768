"""How many threads a step may use: the container's CPU limit, not the number of cores of its node.

Libraries ask the machine how many cores it has. In a container that may use 4 of 96 they start 96 threads, which the
kernel then holds back for most of every 100 ms; so they get the limit before they load. Where there is none,
nothing is set: their own choice (physical cores) is better.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# What reads it at load: OpenMP (torch, faiss, scikit-learn), MKL and OpenBLAS where they have no variable of their own.
OMP = "OMP_NUM_THREADS"
# Results that wait for who takes them, for each thread.
_WAITING = 8


def available_cpus(root: Path = Path("/")) -> int:
    """The CPUs this process may use: the least of affinity, cpuset and quota (rounded down: a part of a core runs
    no thread of its own), at least 1.

    Quotas bind a group and all inside it, so the least of a nested path counts. `root` is the file system's; tests hand
    over another.
    """
    limits = [_affinity()]
    for quota in _quotas(root):
        limits.append(max(1, int(quota)))
    limits.extend(_cpusets(root))
    return max(1, min(limits))


def thread_limit(root: Path = Path("/")) -> int:
    """Threads to tell a library that would ask the machine; 0 = no limit, let it choose. An OMP_NUM_THREADS that is set
    wins."""
    if threads := _read_omp_threads():
        return threads
    cpus = available_cpus(root)
    return cpus if cpus < (os.cpu_count() or 1) else 0


def decoding_threads(most: int = 2, root: Path = Path("/")) -> int:
    """Threads that decode images beside the computation: `most`, or as many as there are CPUs."""
    return min(most, available_cpus(root))


def worker_count(most: int = 8, root: Path = Path("/")) -> int:
    """Processes that work at once: as many as there are CPUs, or OMP_NUM_THREADS where it is set; at most `most`."""
    return max(1, min(most, _read_omp_threads() or most, available_cpus(root)))


def in_threads(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """The results of `work` in the order of `items`; no more than a few wait for who takes them."""
    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(pool, work, items, threads)


def in_order(pool: Executor, work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """The results of `work` by the `workers` of a pool, in the order of `items`; no more than a few wait for who takes
    them."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > _WAITING * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """One thread for the linear algebra of this process: on small matrices its threads cost more than they bring, and
    many times more where other work shares the CPUs."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield


def follow_cpu_limit(root: Path = Path("/")) -> int:
    """Tell OpenMP and torch the limit of this container, before they load if need be; the number, 0 where nothing was
    set."""
    threads = thread_limit(root)
    if threads:
        os.environ[OMP] = str(threads)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(threads)
    return threads


def _read_omp_threads() -> int:
    """OMP_NUM_THREADS as OpenMP reads it ("4,2" is 4 threads, and 2 in each of them); 0 where it says nothing."""
    first = os.environ.get(OMP, "").split(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _groups(root: Path) -> dict[str, str]:
    """The process's control group by controller; the unified hierarchy (v2) under ""."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return {}
    parts = [line.split(":", 2) for line in lines]
    return {
        controller: path
        for part in parts
        if len(part) == 3
        for controller, path in [(name, part[2]) for name in part[1].split(",")]
    }


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders that may bind this process, innermost first.

    A container usually sees its own group as the root of what is mounted, while /proc/self/cgroup may name it as the
    host does: what is not there is passed over.
    """
    groups, mounted = _groups(root), root / "sys/fs/cgroup"
    for key, names in (("", ("", "unified")), (controller, (controller, "cpu,cpuacct", "cpuacct,cpu", "cpu"))):
        if key not in groups:
            continue
        inside = PurePosixPath(groups[key].lstrip("/") or ".")
        if ".." in inside.parts:  # a group outside this namespace
            inside = PurePosixPath(".")
        for name in names:
            for part in (inside, *inside.parents) if str(inside) != "." else (inside,):
                folder = mounted / name / part
                if folder.is_dir():
                    yield folder


def _quotas(root: Path) -> Iterator[float]:
    """Cores by quota, of each group that has one: v1 says -1 and v2 "max" for none."""
    for folder in _folders(root, "cpu"):
        words = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and all(word.isdecimal() and int(word) > 0 for word in words):
            yield int(words[0]) / int(words[1])


def _cpusets(root: Path) -> Iterator[int]:
    for folder in _folders(root, "cpuset"):
        for name in ("cpuset.cpus.effective", "cpuset.cpus"):
            count = 0
            for part in "".join(_words(folder / name)).split(","):
                first, _, last = part.partition("-")
                if first.isdecimal() and (last or first).isdecimal():
                    count += int(last or first) - int(first) + 1
            if count > 0:
                yield count


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
