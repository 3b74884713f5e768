"""A server in a thread, for tests."""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import urllib3
from PIL import Image

from vqi.deployment.serving.bundle_sources import BundleSource, FolderSource
from vqi.deployment.serving.run import Certificate, serve
from vqi.deployment.serving.served_models import PredictorOptions
from vqi.deployment.serving.settings import ServeSettings


@dataclass(frozen=True)
class Running:
    """A server that listens; its address and the port of gRPC."""

    url: str
    port: int
    grpc_port: int | None

    def request(self, method: str, path: str, **options: object) -> urllib3.BaseHTTPResponse:
        return urllib3.request(method, f"{self.url}{path}", retries=False, timeout=30, **options)  # type: ignore[arg-type]


@contextmanager
def running(
    folders: Mapping[str, Path | BundleSource],
    token: str = "",
    certificate: Certificate | None = None,
    options: PredictorOptions | None = None,
    **settings: object,
) -> Iterator[Running]:
    """A server in a thread of this process; what is accepted is answered before it is left."""
    ports: queue.SimpleQueue[tuple[int, int | None] | BaseException] = queue.SimpleQueue()
    stop: list = []

    def run() -> None:
        try:
            serve(
                {name: FolderSource(one) if isinstance(one, Path) else one for name, one in folders.items()},
                options or PredictorOptions("onnxruntime", threads=1),
                ServeSettings(**{"port": 0, "reload_seconds": 0, **settings}),
                token,
                certificate,
                lambda *numbers: ports.put(numbers),
                stop.append,
            )
        except BaseException as error:
            ports.put(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    answer = ports.get(timeout=60)
    if isinstance(answer, BaseException):
        raise answer
    try:
        yield Running(f"{'https' if certificate else 'http'}://localhost:{answer[0]}", *answer)
    finally:
        stop[0]()
        thread.join(30)
        assert not thread.is_alive()


def png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()
