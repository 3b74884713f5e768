"""Who may ask, and the bounds on size, time and room."""

from __future__ import annotations

import asyncio
import base64
import http.client
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certificates import made_authority
from serving_server import running
from vqi.deployment.serving.guard import Guard
from vqi.deployment.serving.metrics import Metrics
from vqi.deployment.serving.refusals import Refusal, TooLarge
from vqi.deployment.serving.remote_photographs import fetch_photograph
from vqi.deployment.serving.run import _bind
from vqi.deployment.serving.settings import ServeSettings


def test_a_token_is_wanted_for_all_but_health(toy_bundle: Path, good: bytes) -> None:
    with running({"plates": toy_bundle}, token="secret") as server:
        assert server.request("GET", "/v2/health/ready").status == 200
        refused = server.request("POST", "/predict", body=good)
        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        wrong = server.request("POST", "/predict", body=good, headers={"Authorization": "Bearer secre"})
        assert wrong.status == 401
        right = server.request("POST", "/predict", body=good, headers={"Authorization": "bearer secret"})
        assert right.status == 200
        assert server.request("GET", "/docs").status == 401


def test_a_large_body_is_refused_by_its_length_and_by_what_arrives(toy_bundle: Path) -> None:
    with running({"plates": toy_bundle}, body_mib=1) as server:
        stated = server.request("POST", "/image-anomaly-detection", body=bytes(2 << 20))
        assert (stated.status, stated.json()["errorCode"]) == (413, 413)
        chunked = server.request("POST", "/predict", body=iter([bytes(1 << 19)] * 3))
        assert chunked.status == 413
        assert chunked.json() == {"error": "The request has more than 1 MiB."}


def test_bodies_that_are_still_arriving_take_room_too() -> None:
    """A first request that has sent 1 MiB of its body and goes on; a second one beside it."""

    async def answer(scope: dict, receive: object, send: Callable) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def two_requests() -> list[int]:
        guard = Guard(answer, ServeSettings(bodies_mib=1), Metrics())
        arriving: asyncio.Queue[dict] = asyncio.Queue()
        statuses: list[int] = []

        async def send(message: dict) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        async def request_second() -> None:
            messages: asyncio.Queue[dict] = asyncio.Queue()
            messages.put_nowait({"type": "http.request", "body": b"x" * 100})
            await guard(scope, messages.get, send)

        scope = {"type": "http", "path": "/predict", "headers": []}
        arriving.put_nowait({"type": "http.request", "body": bytes(1 << 20), "more_body": True})
        first = asyncio.create_task(guard(scope, arriving.get, send))
        await asyncio.sleep(0)
        await request_second()
        arriving.put_nowait({"type": "http.disconnect"})
        await first
        await request_second()
        return statuses

    assert asyncio.run(two_requests()) == [503, 499, 200]


def test_a_slow_body_is_given_up(toy_bundle: Path) -> None:
    with (
        running({"plates": toy_bundle}, body_seconds=0.2) as server,
        socket.create_connection(("localhost", server.port)) as slow,
    ):
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nbegin")
        answer = http.client.HTTPResponse(slow)
        answer.begin()
        assert answer.status == 408
        assert answer.getheader("Connection") == "close"
        assert server.request("GET", "/health").status == 200


def test_more_photographs_than_the_queue_holds_get_503_and_a_time(toy_bundle: Path, good: bytes) -> None:
    with running({"plates": toy_bundle}, queue=1) as server:
        response = server.request("POST", "/predict", fields=[("files", (str(n), good)) for n in range(2)])
        assert response.status == 503
        assert int(response.headers["Retry-After"]) >= 1
        assert server.request("POST", "/predict", body=good).status == 200


def test_an_answer_that_takes_too_long_is_504(toy_bundle: Path, good: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    from vqi.deployment.predictor import Predictor

    prepare = Predictor.prepare
    with running({"plates": toy_bundle}, answer_seconds=0.2) as server:
        monkeypatch.setattr(Predictor, "prepare", lambda *a, **k: time.sleep(0.5) or prepare(*a, **k))
        response = server.request("POST", "/predict", body=good)
        monkeypatch.undo()
        assert response.status == 504
        assert response.json() == {"error": "There was no answer within 0.2 s."}
        # What was given up takes no room, once the thread that decodes it is through.
        time.sleep(0.6)
        assert server.request("POST", "/predict", body=good).status == 200


def test_a_request_whose_client_is_gone_takes_no_room(
    toy_bundle: Path, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vqi.deployment.predictor import Predictor

    begun, prepare = threading.Event(), Predictor.prepare

    def slow(*values: object, **named: object) -> object:
        begun.set()
        time.sleep(0.5)
        return prepare(*values, **named)  # type: ignore[arg-type]

    with running({"plates": toy_bundle}, queue=1) as server:
        monkeypatch.setattr(Predictor, "prepare", slow)
        with socket.create_connection(("localhost", server.port)) as client:
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(good) + good)
            assert begun.wait(10)
        monkeypatch.undo()
        latest = time.monotonic() + 10
        while (status := server.request("POST", "/predict", body=good).status) == 503 and time.monotonic() < latest:
            time.sleep(0.02)
        assert status == 200


def test_small_answers_are_sent_at_once() -> None:
    """asyncio switches Nagle's algorithm off for what it knows as TCP; with it each answer waited 40 ms."""
    with _bind(ServeSettings(port=0)) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_tls_with_a_certificate_of_ones_own(toy_bundle: Path, good: bytes, tmp_path: Path) -> None:
    import urllib3

    from vqi.deployment.serving.run import Certificate

    authority, _ = made_authority(tmp_path)
    chain = next(path for path in tmp_path.iterdir() if b"PRIVATE KEY" in path.read_bytes())
    with running({"plates": toy_bundle}, certificate=Certificate(chain, chain)) as server:
        pool = urllib3.PoolManager(ca_certs=str(authority))
        assert pool.request("POST", f"{server.url}/predict", body=good, retries=False).status == 200
        pool.clear()


@pytest.fixture
def camera(good: bytes) -> Iterator[int]:
    """A web server on this machine: a photograph, a way on to it, one to elsewhere, and an endless one."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            target = {"/on": "/part.png", "/away": "http://169.254.169.254/latest", "/round": "/round"}.get(self.path)
            self.send_response(302 if target else 200 if self.path in ("/part.png", "/long") else 404)
            if target:
                self.send_header("Location", target)
            self.end_headers()
            if self.path == "/part.png":
                self.wfile.write(good)
            if self.path == "/long":
                self.wfile.write(bytes(1 << 20))

        def log_message(self, *values: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_a_photograph_comes_from_an_allowed_address_alone(camera: int, good: bytes) -> None:
    here = f"http://127.0.0.1:{camera}"
    assert fetch_photograph(f"{here}/part.png", ["127.0.0.1"], 1 << 20, 5) == good
    assert fetch_photograph(f"{here}/on", ["127.0.0.1"], 1 << 20, 5) == good
    for address, hosts, sentence in (
        (f"{here}/part.png", [], "Photographs are not fetched from addresses here"),
        (f"{here}/part.png", ["camera"], "Photographs are not fetched from '127.0.0.1'"),
        (f"{here}/away", ["127.0.0.1"], "Photographs are not fetched from '169.254.169.254'"),
        (f"http://localhost:{camera}/part.png", ["localhost"], "The host localhost lies in a private network"),
        (f"http://user:pass@127.0.0.1:{camera}/part.png", ["127.0.0.1"], "The address must begin with"),
        (f"{here}/nothing", ["127.0.0.1"], "The address answered with status 404"),
        (f"{here}/round", ["127.0.0.1"], "The address leads on more than 3 times."),
        ("http://[::1", ["::1"], "The address cannot be read."),
        ("file:///etc/passwd", ["127.0.0.1"], "The address must begin with"),
    ):
        with pytest.raises(Refusal) as refused:
            fetch_photograph(address, hosts, 1 << 20, 5)
        assert str(refused.value).startswith(sentence)
    with pytest.raises(TooLarge):
        fetch_photograph(f"{here}/long", ["127.0.0.1"], 1000, 5)


def test_an_allowed_address_reaches_paddlex_clients(toy_bundle: Path, camera: int) -> None:
    with running({"plates": toy_bundle}, allow_hosts=("127.0.0.1",)) as server:
        body = {"image": f"http://127.0.0.1:{camera}/part.png", "visualize": False}
        answer = server.request("POST", "/image-anomaly-detection", json=body).json()
    assert answer["result"]["size"] == [80, 96]
    assert base64.b64encode(bytes(answer["result"]["labelMap"]))
