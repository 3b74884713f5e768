"""A proxy before an S3 server that spoils calls, by a seed, and counts what it did."""

from __future__ import annotations

import http.client
import http.server
import random
import re
import ssl
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

# Before the server hears of it: refused, or the connection closed. After it did what it was asked to: the answer lost,
# or half of its body.
BEFORE, AFTER = ("slow_down", "closed"), ("unanswered", "half")
ALL = BEFORE + AFTER


@dataclass(frozen=True)
class Call:
    """A request: its method, its path with the query, and which call of this path it is (0, 1, ...)."""

    method: str
    path: str
    times: int
    ranged: bool = False

    @property
    def operation(self) -> str:
        """What S3 calls it."""
        bucket_only = urlsplit(self.path).path.count("/") == 1
        query = urlsplit(self.path).query
        if "partNumber=" in query:
            return "UploadPart"
        if "uploadId=" in query:
            return {"POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}.get(self.method, "ListParts")
        if re.search(r"(^|&)uploads(=|&|$)", query):
            return {"POST": "CreateMultipartUpload"}.get(self.method, "ListMultipartUploads")
        verb = {"GET": "Get", "HEAD": "Head", "PUT": "Put", "DELETE": "Delete"}.get(self.method, self.method)
        return ("ListObjects" if self.method == "GET" else f"{verb}Bucket") if bucket_only else f"{verb}Object"


@dataclass(frozen=True)
class Answer:
    """An answer that the proxy gives itself."""

    status: int
    code: str = ""
    more: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def body(self) -> bytes:
        error = f"<Error><Code>{self.code}</Code><Message>by the proxy</Message>{self.more}</Error>"
        return f'<?xml version="1.0" encoding="UTF-8"?>{error}'.encode()


SLOW_DOWN = Answer(503, "SlowDown")
# As MinIO gives it where its disks are full.
FULL = Answer(507, "XMinioStorageFull")
# What to do with a call: nothing (None), one of ALL, `swallowed` (said to be done, and not), a number of seconds to
# sleep first, or an answer.
Fault = str | float | Answer | None
Plan = Callable[[Call], Fault]


def a_third(seed: int = 0, kinds: tuple[str, ...] = ALL) -> Plan:
    """Spoil one in three calls: of each path one of its first three calls, one of the next three, and so on, whatever
    order threads come in."""

    def plan(call: Call) -> Fault:
        block = random.Random(f"{seed} {call.method} {_key(call.path)} {call.times // 3}")
        spoilt, kind = block.randrange(3), block.choice(kinds)
        return kind if call.times % 3 == spoilt else None

    return plan


def every(fault: Fault, *operations: str, times: int = 10**9) -> Plan:
    """Spoil the first `times` calls of every path with one of `operations`."""
    return lambda call: fault if call.operation in operations and call.times < times else None


@dataclass
class Proxy:
    """The running proxy: where it listens, what it saw and what it spoilt, both by operation and fault."""

    endpoint: str
    plan: Plan
    calls: Counter[str] = field(default_factory=Counter)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    ranges: int = 0
    # Bytes a second at which requests are read; 0 = as fast as they come.
    reading: int = 0

    @property
    def spoilt(self) -> int:
        return sum(self.faults.values())

    def spoilt_with(self, fault: str) -> int:
        return sum(count for (_, name), count in self.faults.items() if name == fault)


@contextmanager
def faulty(endpoint: str, plan: Plan | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """Put a proxy before the server at `endpoint`. The Host header is passed on as it came, so signatures stay
    valid."""
    lock, seen = threading.Lock(), defaultdict[tuple[str, str], int](int)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            key = (self.command, _key(self.path))
            with lock:
                call = Call(self.command, self.path, seen[key], "Range" in self.headers)
                seen[key] += 1
                fault = proxy.plan(call)
                if fault == "half" and self.command == "HEAD":
                    fault = "unanswered"
                proxy.calls[call.operation] += 1
                proxy.ranges += call.ranged
                if fault is not None:
                    proxy.faults[
                        call.operation,
                        fault if isinstance(fault, str) else fault.code if isinstance(fault, Answer) else "slow",
                    ] += 1
            if fault == "closed":
                self.close_connection = True
                return
            body = self._read()
            if isinstance(fault, float):
                time.sleep(fault)
            if fault == "slow_down":
                fault = SLOW_DOWN
            if isinstance(fault, Answer):
                self._answer(fault)
            elif fault == "swallowed":
                self.send_response(200)
                self.send_header("ETag", '"d41d8cd98f00b204e9800998ecf8427e"')
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self._forward(body, fault)

        @property
        def chunked(self) -> bool:
            return self.headers.get("Transfer-Encoding", "").lower() == "chunked"

        def _read(self) -> bytes:
            chunks = []
            while self.chunked:
                size = int(self.rfile.readline().split(b";")[0], 16)
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
                if not size:
                    return b"".join(chunks)
            length = int(self.headers.get("Content-Length") or 0)
            while length:
                chunk = self.rfile.read(min(length, 1 << 18))
                if not chunk:
                    raise ConnectionError("the client went away")
                chunks.append(chunk)
                length -= len(chunk)
                if proxy.reading:
                    time.sleep(len(chunk) / proxy.reading)
            return b"".join(chunks)

        def _answer(self, answer: Answer) -> None:
            body = b"" if self.command == "HEAD" else answer.body()
            self.send_response(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _forward(self, body: bytes, fault: Fault) -> None:
            upstream = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=60)
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(iter([body]) if self.chunked else body, encode_chunked=self.chunked)
            answer = upstream.getresponse()
            content = answer.read()
            upstream.close()
            if fault == "unanswered":
                self.close_connection = True
                return
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

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Listener(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that give up are what is wanted here."""

    listener = Listener(("127.0.0.1", 0), Handler)
    if tls:
        listener.socket = tls.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
    host = "https://localhost" if tls else "http://127.0.0.1"
    proxy = Proxy(f"{host}:{listener.server_address[1]}", plan or (lambda call: None))
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


def _key(path: str) -> str:
    """A path without what is new with every attempt, and without the bucket, which is new with every test."""
    return re.sub(r"^/[^/?]*", "", re.sub(r"uploadId=[^&]*", "", path))
