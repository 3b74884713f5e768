"""What the processes of test_worker_processes.py do."""

from __future__ import annotations

import os
import signal
import time

from vqi.platform.errors import BadInput


def delayed(seconds: float, item: int) -> tuple[int, int]:
    """The item and the process, after a pause that differs: odd ones come later."""
    time.sleep(seconds * (item % 2))
    return item, os.getpid()


def refusing(refused: int, item: int) -> int:
    if item == refused:
        raise BadInput(f"The item {item} cannot be used.")
    return item


def killed(last: int, item: int) -> int:
    """Ends its process at the item `last`, as the kernel does where memory is short."""
    if item == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def slow(file: str, item: int) -> int:
    """Writes its process into `file`, and is at work for long."""
    with open(file, "a") as lines:
        lines.write(f"{os.getpid()}\n")
    time.sleep(60)
    return item
