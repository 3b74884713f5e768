"""A step as kfp.local runs it, a process, whose work a warm process does (`warm_server`).

    python3 -m vqi.steps.warm_client kfp.dsl.executor_main --function_to_execute train --executor_input {...}

kfp.local runs nothing that does not name its executor. What the step prints goes to this process's own output, and its
exit code, or the signal that ended it, becomes this process's. Where no warm process answers, the step runs here.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress

# The folder of the sockets, one a step.
FOLDER = "VQI_WARM_STEPS"
_NUMBER = struct.Struct("<q")


def main(arguments: Sequence[str]) -> int:
    """Run the step that `arguments` name; its exit code, -N where signal N ended it."""
    step = arguments[arguments.index("--function_to_execute") + 1]
    # The step gets what the terminal sends; the end of this process would be the end of what it prints.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.path.join(os.environ.get(FOLDER, ""), step))
            _ask(connection, arguments)
            answered = bool(connection.recv(1))
        except OSError:
            answered = False
        if answered:
            state = b""
            while len(state) < _NUMBER.size and (part := connection.recv(_NUMBER.size - len(state))):
                state += part
            # Without a state the server has ended, and the step's report says how far the step came.
            return os.waitstatus_to_exitcode(_NUMBER.unpack(state)[0]) if len(state) == _NUMBER.size else 1
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.execv(sys.executable, [sys.executable, "-W", "ignore", "-m", "vqi.steps", *arguments])


def _ask(connection: socket.socket, arguments: Sequence[str]) -> None:
    request = {"arguments": list(arguments), "folder": os.getcwd(), "environment": dict(os.environ)}
    content = json.dumps(request).encode()
    socket.send_fds(connection, [_NUMBER.pack(len(content))], [0, 1, 2])
    connection.sendall(content)


if __name__ == "__main__":
    code = main(sys.argv[2:])
    if code < 0:
        with suppress(OSError):  # SIGKILL has no other
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)
