"""Steps of a local run in processes that are warm: forked, one a step, from a process that has imported what it needs.

    python3 -m vqi.steps.warm_server '{"train": 3, "evaluate": 4}'

The argument names each step and the descriptor of the socket that asks for it (`warm_client`). A layer of imports
serves its steps and forks the process that goes on to the next layer, so that a step that needs no torch does not count
it as its memory. What is forked has imported and never computed: it holds no lock and no thread but those of OpenBLAS,
which ends and begins them around a fork. All ends when standard input does, which whoever started this holds open.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from vqi.platform.threads import follow_cpu_limit

# A length, and the state of a process that has ended, as os.waitpid gives it.
NUMBER = struct.Struct("<q")
STARTED = b"s"
# Seconds that steps have to end by themselves when whoever started them has gone.
GRACE = 10.0


@dataclass(frozen=True)
class Layer:
    """Steps, and the modules (or MODULE:FUNCTION that imports them) that they need beyond those of the layers before.
    What cannot be imported is left to the step, which says so."""

    steps: tuple[str, ...]
    modules: tuple[str, ...]


# Not onnxruntime, which begins a thread as it is imported: a process that is forked beside it cannot end.
LAYERS = (
    Layer(
        ("configure", "ingest", "check_dataset"),
        ("kfp.dsl.executor", "vqi.steps.configure.step", "vqi.steps.ingest.step", "vqi.steps.check_dataset.step"),
    ),
    Layer(
        ("train", "build_index"),
        (
            "torch",
            "torch._dynamo",
            "safetensors.torch",
            "vqi.platform.torchvision_guard:torchvision",
            "vqi.steps.train.step",
            "vqi.steps.build_index.step",
        ),
    ),
    Layer(
        ("evaluate", "export", "promote"),
        (
            "scipy.stats",
            "cv2",
            "mlflow.tracking",
            "mlflow.store.tracking.sqlalchemy_store",
            "onnx",
            "openvino",
            "onnxscript",
            "torch.onnx._internal.exporter._core",
            "vqi.steps.evaluate.step",
            "vqi.steps.export.step",
            "vqi.steps.promote.step",
        ),
    ),
)


@dataclass(frozen=True)
class Request:
    """What a client asks for: the arguments of `python3 -m vqi.steps`, and where it stands. `streams` are descriptors
    of its standard input, output and error."""

    arguments: tuple[str, ...]
    folder: str
    environment: Mapping[str, str]
    streams: tuple[int, ...]

    def adopt(self) -> None:
        """Let this process stand where the client does."""
        from vqi.platform.logs import configure

        for target, stream in enumerate(self.streams):
            os.dup2(stream, target)
        for stream in self.streams:
            if stream > 2:
                os.close(stream)
        os.environ.clear()
        os.environ.update(self.environment)
        tempfile.tempdir = None
        os.chdir(self.folder)
        sys.argv = ["vqi.steps", *self.arguments]
        configure()


def serve(listeners: Mapping[str, socket.socket], layers: Sequence[Layer] = LAYERS) -> Request | None:
    """Serve the steps of `listeners`; None when all has ended. In a process that was forked for a step, its request."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the steps too, and they answer it
    following = 0
    for number, layer in enumerate(layers):
        import_layer(layer)
        following = os.fork() if number + 1 < len(layers) else 0
        if following or number + 1 == len(layers):
            own = {step: listener for step, listener in listeners.items() if step in layer.steps}
            for step in listeners.keys() - own.keys():
                listeners[step].close()
            request = _Server(own).run()
            if request is None and following:
                with suppress(ChildProcessError):
                    os.waitpid(following, 0)
            return request
    return None


def import_layer(layer: Layer) -> None:
    """Import what the steps of a layer need, into a process that steps are forked from."""
    for module in layer.modules:
        name, _, function = module.partition(":")
        with suppress(Exception):
            imported = importlib.import_module(name)
            if function:
                getattr(imported, function)()
    # What is there stays: the collector would write into pages that all share.
    gc.collect()
    gc.freeze()


@dataclass
class _Server:
    """The loop of one layer. `jobs` maps the process of each step to the connection of its client."""

    listeners: Mapping[str, socket.socket]
    jobs: dict[int, socket.socket] = field(default_factory=dict)
    stopping: float | None = None
    warned: set[int] = field(default_factory=set)

    def run(self) -> Request | None:
        self.woken, self.waking = socket.socketpair()
        for end in (self.woken, self.waking):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self.waking.fileno(), warn_on_full_buffer=False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin.fileno(), selectors.EVENT_READ, "stdin")
        self.selector.register(self.woken, selectors.EVENT_READ, "child")
        for listener in self.listeners.values():
            self.selector.register(listener, selectors.EVENT_READ, "listener")
        while self.stopping is None or self.jobs:
            for key, _ in self.selector.select(None if self.stopping is None else 1.0):
                if key.data == "stdin":
                    self._stop()
                elif key.data == "child":
                    with suppress(BlockingIOError):
                        self.woken.recv(4096)
                elif key.data == "listener":
                    assert isinstance(key.fileobj, socket.socket)
                    if request := self._begin(key.fileobj):
                        return request
                else:  # a client says nothing more: it has gone
                    self._end(key.data)
            self._reap()
            if self.stopping is not None and time.monotonic() > self.stopping + GRACE:
                for pid in self.jobs:
                    self._end(pid)
        signal.set_wakeup_fd(-1)
        return None

    def _begin(self, listener: socket.socket) -> Request | None:
        connection, _ = listener.accept()
        try:
            request = receive(connection)
            pid = os.fork()
        except (OSError, ValueError):  # the client has gone, or there is no room for another process
            connection.close()
            return None
        if not pid:
            self._forget(connection)
            return request
        for stream in request.streams:
            os.close(stream)
        self.jobs[pid] = connection
        self.selector.register(connection, selectors.EVENT_READ, pid)
        with suppress(OSError):
            connection.sendall(STARTED)
        return None

    def _forget(self, connection: socket.socket) -> None:
        """Leave all that is the server's behind, in a process that was forked from it."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.selector.close()
        for end in (connection, self.woken, self.waking, *self.listeners.values(), *self.jobs.values()):
            end.close()

    def _reap(self) -> None:
        for pid, connection in list(self.jobs.items()):
            ended, state = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self.jobs[pid]
                with suppress(KeyError):
                    self.selector.unregister(connection)
                with suppress(OSError):
                    connection.sendall(NUMBER.pack(state))
                connection.close()

    def _end(self, pid: int) -> None:
        """Ask the process of a step to end, once."""
        if pid in self.warned or pid not in self.jobs:
            return
        self.warned.add(pid)
        with suppress(KeyError):
            self.selector.unregister(self.jobs[pid])
        os.kill(pid, signal.SIGTERM)

    def _stop(self) -> None:
        self.stopping = time.monotonic()
        self.selector.unregister(sys.stdin.fileno())
        for listener in self.listeners.values():
            self.selector.unregister(listener)
            listener.close()


def receive(connection: socket.socket) -> Request:
    """The request of a client. Raises OSError where it has gone, ValueError for what is none."""
    head, streams, _, _ = socket.recv_fds(connection, NUMBER.size, 3)
    content = bytearray()
    length = NUMBER.unpack(head)[0] if len(head) == NUMBER.size else 0
    while len(content) < length and (part := connection.recv(length - len(content))):
        content += part
    if not length or len(content) < length or len(streams) != 3:
        for stream in streams:
            os.close(stream)
        raise ValueError("an incomplete request")
    value = json.loads(content)
    return Request(tuple(value["arguments"]), value["folder"], value["environment"], tuple(streams))


def main(arguments: Sequence[str], run: Callable[[Sequence[str]], None], layers: Sequence[Layer] = LAYERS) -> None:
    """Serve, and `run` the arguments of each request in a process of its own, which ends as any other does."""
    # kfp then leaves out its client and compiler (`vqi.steps.__main__`).
    os.environ["_KFP_RUNTIME"] = "true"
    follow_cpu_limit()
    descriptors: dict[str, int] = json.loads(arguments[0])
    listeners = {step: socket.socket(fileno=descriptor) for step, descriptor in descriptors.items()}
    if request := serve(listeners, layers):
        request.adopt()
        run(request.arguments)


def listen(folder: Path, steps: Sequence[str]) -> dict[str, socket.socket]:
    """A socket in `folder` for each step, which no other user may reach. Raises OSError where the folder's name is too
    long for one."""
    sockets = {}
    for step in steps:
        sockets[step] = socket.socket(socket.AF_UNIX)
        sockets[step].bind(str(Path(folder) / step))
        sockets[step].listen()
    return sockets


if __name__ == "__main__":
    from vqi.steps.__main__ import main as run_step

    main(sys.argv[1:], run_step)
