from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import worker_tasks

from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.worker_processes import in_processes


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [str(Path(__file__).parent), *filter(None, sys.path)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))


@pytest.mark.parametrize("count", [1, 3])
def test_results_come_in_the_order_of_the_items(count: int) -> None:
    results = list(in_processes(partial(worker_tasks.delayed, 0.05), range(20), count, "waits"))
    assert [item for item, _ in results] == list(range(20))
    processes = {process for _, process in results}
    assert min(count, 2) <= len(processes) <= count
    assert os.getpid() not in processes


def test_no_items_give_no_results() -> None:
    assert list(in_processes(partial(worker_tasks.delayed, 0.0), [], 2, "waits")) == []


def test_what_the_work_raises_is_raised_here() -> None:
    results = in_processes(partial(worker_tasks.refusing, 3), range(20), 2, "works")
    with pytest.raises(BadInput, match=r"The item 3 cannot be used\."):
        list(results)


def test_a_process_that_is_killed_gives_a_sentence() -> None:
    results = in_processes(partial(worker_tasks.killed, 2), range(20), 2, "inspects photographs")
    with pytest.raises(RunFailed) as failure:
        list(results)
    assert str(failure.value) == (
        "A process that inspects photographs was ended, as where memory is short; run this again."
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "processes"
    program = (
        "from functools import partial\nimport worker_tasks\nfrom vqi.platform.worker_processes import in_processes\n"
        f"list(in_processes(partial(worker_tasks.slow, {str(file)!r}), range(9), 2, 'works'))"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    try:
        wait_for(lambda: file.exists() and len(file.read_text().split()) == 2)
        workers = [int(process) for process in file.read_text().split()]
        parent.send_signal(number)
        assert parent.wait(10) == -number
        wait_for(lambda: not any(map(alive, workers)))
    finally:
        parent.kill()


def wait_for(condition: object, seconds: float = 20.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)


def alive(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    return False
