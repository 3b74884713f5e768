"""A small HTTP proxy as companies have: plain requests are forwarded, CONNECT is tunnelled; it may ask for a user and a
password."""

from __future__ import annotations

import base64
import http.client
import http.server
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class ForwardProxy:
    """The running proxy: its HOST:PORT, and the method and target of each request that it was sent."""

    address: str
    requests: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def forwarding(credentials: str = "", hosts: dict[str, str] | None = None) -> Iterator[ForwardProxy]:
    """A proxy that lets through whoever sends `credentials` (user:password). `hosts` are addresses of names that only
    the proxy resolves."""
    wanted = f"Basic {base64.b64encode(credentials.encode()).decode()}" if credentials else ""

    def resolved(netloc: str) -> str:
        host, separator, port = netloc.partition(":")
        return f"{(hosts or {}).get(host, host)}{separator}{port}"

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _admitted(self) -> bool:
            proxy.requests.append((self.command, self.path))
            if not wanted or self.headers.get("Proxy-Authorization") == wanted:
                return True
            self.send_response(407)
            self.send_header("Proxy-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()
            self.close_connection = True
            return False

        def do_CONNECT(self) -> None:
            if not self._admitted():
                return
            host, _, port = resolved(self.path).rpartition(":")
            try:
                upstream = socket.create_connection((host, int(port)), timeout=10)
            except OSError:
                self.send_error(502)
                return
            self.send_response(200)
            self.end_headers()
            pair = [self.connection, upstream]
            while ready := select.select(pair, [], [], 30)[0]:
                for source in ready:
                    data = source.recv(1 << 16)
                    if not data:
                        upstream.close()
                        self.close_connection = True
                        return
                    (upstream if source is self.connection else self.connection).sendall(data)

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not self._admitted():
                return
            target = urlsplit(self.path)
            upstream = http.client.HTTPConnection(resolved(target.netloc), timeout=30)
            try:
                upstream.putrequest(
                    self.command, f"{target.path}?{target.query}" if target.query else target.path, True, True
                )
                for name, value in self.headers.items():
                    if not name.lower().startswith("proxy-"):
                        upstream.putheader(name, value)
                upstream.endheaders(body)
                answer = upstream.getresponse()
                content = answer.read()
            except OSError:
                self.send_error(502)
                return
            finally:
                upstream.close()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", answer.headers.get("Content-Length") or str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Listener(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that give up are what is wanted here."""

    listener = Listener(("127.0.0.1", 0), Handler)
    proxy = ForwardProxy(f"127.0.0.1:{listener.server_address[1]}")
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
