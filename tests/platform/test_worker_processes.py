from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.worker_processes import Work, in_processes

TASKS = "worker_tasks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.mark.parametrize("count", [1, 3])
def test_results_come_in_the_order_of_the_items(count: int) -> None:
    results = list(in_processes(Work(f"{TASKS}:delayed", 0.01, "waits"), range(20), count))
    assert [item for item, _ in results] == list(range(20))
    processes = {process for _, process in results}
    assert len(processes) == count
    assert os.getpid() not in processes


def test_no_items_give_no_results() -> None:
    assert list(in_processes(Work(f"{TASKS}:delayed", 0.0, "waits"), [], 2)) == []


def test_what_the_work_raises_is_raised_here() -> None:
    results = in_processes(Work(f"{TASKS}:refusing", 3, "works"), range(20), 2)
    with pytest.raises(BadInput, match=r"The item 3 cannot be used\."):
        list(results)


def test_a_process_that_is_killed_gives_a_sentence() -> None:
    results = in_processes(Work(f"{TASKS}:killed", 2, "inspects photographs"), range(20), 2)
    with pytest.raises(RunFailed) as failure:
        list(results)
    assert str(failure.value) == (
        "A process that inspects photographs was ended by the signal SIGKILL, as where memory is short; run this again."
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "processes"
    program = (
        "from vqi.platform.worker_processes import Work, in_processes\n"
        f"list(in_processes(Work('{TASKS}:endless', {str(file)!r}, 'works'), range(9), 2))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    parent = subprocess.Popen([sys.executable, "-c", program], env=environment)
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
