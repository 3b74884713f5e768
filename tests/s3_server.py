"""A real S3 server for tests: MinIO where it is on the PATH, else rclone's; and a bad network in front of it."""

from __future__ import annotations

import http.client
import http.server
import itertools
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KEY, SECRET = "test-access-key", "test-secret-key"


@dataclass(frozen=True)
class Server:
    """A running server: `kind` is minio or rclone."""

    endpoint: str
    kind: str

    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL_S3": self.endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}


@contextmanager
def serving(folder: Path) -> Iterator[Server | None]:
    """Run a server over `folder`; None where there is none to run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    rclone = Path(sys.executable).parent / "rclone"
    if minio := shutil.which("minio"):
        kind, command = "minio", [minio, "server", "--quiet", "--address", address, str(folder)]
    elif rclone.is_file():
        kind, command = "rclone", [str(rclone), "serve", "s3", "--auth-key", f"{KEY},{SECRET}", "--addr", address, "--config", "", str(folder)]
    else:
        yield None
        return
    environment = {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _await(address, process)
            yield Server(f"http://{address}", kind)
        finally:
            process.terminate()


def _await(address: str, process: subprocess.Popen[bytes]) -> None:
    host, port = address.split(":")
    for _ in range(200):
        assert process.poll() is None, "the S3 server ended at once"
        try:
            with socket.create_connection((host, int(port)), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the S3 server did not start within ten seconds")


@dataclass
class BadNetwork:
    """A proxy that spoils every third answer: 503, a connection closed without a word, or (for an object's content) half of it."""

    endpoint: str
    spoilt: int = 0
    ranges: int = 0


@contextmanager
def bad_network(server: Server) -> Iterator[BadNetwork]:
    """Put a proxy before `server`. The Host header is passed on as it came, so signatures stay valid."""
    contents, others = itertools.cycle(("", "", "half", "", "", "503", "", "", "closed")), itertools.cycle(("", "", "503", "", "", "closed"))
    lock = threading.Lock()

    class Proxy(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            with lock:
                fault = next(contents if self.command == "GET" and "?" not in self.path else others)
                network.spoilt += bool(fault)
                network.ranges += "Range" in self.headers
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if fault == "503":
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if fault == "closed":
                self.close_connection = True
                return
            upstream = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=10)
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            content = answer.read()
            upstream.close()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", answer.headers.get("Content-Length") or str(len(content)))
            self.end_headers()
            if fault == "half":
                content = content[: len(content) // 2]
                self.close_connection = True
            self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = _forward

        def log_message(self, format: str, *args: object) -> None:
            pass

    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    proxy.daemon_threads = True
    network = BadNetwork(f"http://127.0.0.1:{proxy.server_address[1]}")
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield network
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
