"""The warm processes that the steps of one local run are forked from (`vqi.steps.warm_server`)."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from vqi.placement import STEPS
from vqi.platform.logs import logger
from vqi.steps.warm_client import FOLDER
from vqi.steps.warm_server import listen

log = logger(__name__)

# Seconds that the server is waited for at the end. It has no work then, or was interrupted and ends with its steps.
PATIENCE = 2.0


@contextmanager
def warm_steps(environment: Mapping[str, str], output: TextIO) -> Iterator[dict[str, str]]:
    """Processes that import what the steps need while the body begins; the variables by which the steps find them.

    None where this system cannot have them: processes with threads and frameworks of macOS must not be forked. What
    the processes themselves print goes to `output`.
    """
    if sys.platform != "linux":
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="vqi-warm-", ignore_cleanup_errors=True) as folder:
        try:
            sockets = listen(Path(folder), (*STEPS, "promote"))
        except OSError as error:  # the name of the folder for temporary files is too long for a socket's
            log.debug(f"Every step is a process of its own from the start ({error})")
            yield {}
            return
        descriptors = {step: own.fileno() for step, own in sockets.items()}
        server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "vqi.steps.warm_server", json.dumps(descriptors)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**environment, "TMPDIR": folder},  # some libraries make a folder as they are imported
            pass_fds=tuple(descriptors.values()),
        )
        # Its own alone: where it dies nobody waits for an answer.
        for own in sockets.values():
            own.close()
        try:
            yield {FOLDER: folder}
        finally:
            assert server.stdin is not None
            server.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                server.wait(PATIENCE)
