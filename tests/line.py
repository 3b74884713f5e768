"""A line for tests: photographs that appear, a receiver of decisions, `vqi watch` as a process."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from toy_bundle import photograph


def appear(folder: Path, name: str, seed: int = 99, defect: bool = False) -> Path:
    """A photograph that is renamed into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}.part"
    Image.fromarray(photograph(seed, defect)).save(partial, "PNG")
    return partial.rename(folder / name)


def decisions(folder: Path) -> list[dict[str, Any]]:
    """What a folder's lines say, those that were put aside first."""
    files = [*sorted(folder.glob("decisions-*.jsonl")), folder / "decisions.jsonl"]
    return [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


class Receiver:
    """A webhook: what it got, as (headers, body), and the statuses that it answers before 204."""

    def __init__(self, port: int = 0) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        ours = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = ours.statuses.pop(0) if ours.statuses else 204
                if status == 204:
                    ours.got.append((dict(self.headers), body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/decisions"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def images(self) -> list[str]:
        return [json.loads(body)["image"] for _, body in self.got]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def watching(*arguments: str, folder: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """`vqi watch` as a process in `folder`, which is killed when the block ends."""
    command = [sys.executable, "-c", "from vqi_pipelines.command import main; main()", "watch", *arguments]
    process = subprocess.Popen(
        command,
        cwd=folder,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **options,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()
