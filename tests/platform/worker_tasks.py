"""What the processes of test_worker_processes.py do."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from vqi.platform.errors import BadInput


def delayed(setup: float) -> Callable[[int], tuple[int, int]]:
    """The item and the process, after a pause that differs: even ones come later."""

    def work(item: int) -> tuple[int, int]:
        time.sleep(setup * (item % 2))
        return item, os.getpid()

    return work


def refusing(setup: int) -> Callable[[int], int]:
    """Raises at the item `setup`."""

    def work(item: int) -> int:
        if item == setup:
            raise BadInput(f"The item {item} cannot be used.")
        return item

    return work


def killed(setup: int) -> Callable[[int], int]:
    """Ends its process at the item `setup`, as the kernel does where memory is short."""

    def work(item: int) -> int:
        if item == setup:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    return work


def endless(setup: str) -> Callable[[int], int]:
    """Writes its process into the file `setup`, and is at work for long."""

    def work(item: int) -> int:
        with open(setup, "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(60)
        return item

    return work
