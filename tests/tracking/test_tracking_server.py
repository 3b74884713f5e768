"""Whether an MLflow server answers, asked without MLflow."""

from __future__ import annotations

import base64
import http.server
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from forward_proxy import forwarding
from vqi.category import Category
from vqi.placement import DEVICE_STEPS
from vqi.platform.errors import BadInput, RunFailed, VqiError
from vqi.steps.configure.step import configure
from vqi.tracking.server import check_server

HERE = {"experiment": {"experiment_id": "1", "lifecycle_stage": "active"}}
MISSING = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}


@contextmanager
def answering(
    status: int = 200, body: Any = HERE, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[Any]]]:
    """A server that gives one answer to everything; its address, and path and credentials of each request."""
    requests: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append((self.path, self.headers.get("Authorization", "")))
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Listener(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that does not trust the certificate goes away."""

    listener = Listener(("127.0.0.1", 0), Handler)
    if tls:
        listener.socket = tls.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"{'https://localhost' if tls else 'http://127.0.0.1'}:{listener.server_address[1]}", requests
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


def check(address: str, **environ: str) -> None:
    check_server(address, "bolts & nuts", environ, pause=0.001)


@pytest.mark.parametrize(("status", "body"), [(200, HERE), (404, MISSING), (401, b"who?"), (403, b""), (500, b"")])
def test_a_server_that_answers(status: int, body: Any) -> None:
    with answering(status, body) as (address, requests):
        check(f"{address}/base/")
        assert requests == [("/base/api/2.0/mlflow/experiments/get-by-name?experiment_name=bolts%20%26%20nuts", "")]


@pytest.mark.parametrize("address", ["", "sqlite:///runs/mlflow.db", "postgresql://away/x"])
def test_other_addresses_get_no_request(address: str) -> None:
    check(address)


@pytest.mark.parametrize(
    ("status", "body", "kind", "sentence"),
    [
        (200, b"<html>KFP</html>", BadInput, r"\(status 200\) is not an MLflow server"),
        (404, b"not found", BadInput, r"\(status 404\) is not an MLflow server"),
        (404, {"code": 5}, BadInput, "is not an MLflow server"),
        (200, [1], BadInput, "is not an MLflow server"),
        (200, {"experiment": {"lifecycle_stage": "deleted"}}, BadInput, "'bolts & nuts' was deleted; restore it"),
        (502, b"", RunFailed, r"does not answer \(status 502\)"),
        (503, b"", RunFailed, r"does not answer \(status 503\)"),
    ],
)
def test_answers_that_are_not_good_enough(status: int, body: Any, kind: type[VqiError], sentence: str) -> None:
    with answering(status, body) as (address, requests):
        with pytest.raises(kind, match=sentence) as caught:
            check(address.replace("//", "//user:secret@"))
        assert len(requests) == (2 if kind is RunFailed else 1)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_server_that_is_away_is_a_short_sentence() -> None:
    long = "tracking." + "x" * 55 + ".invalid"
    for address in ("http://127.0.0.1:1", f"http://user:secret@{long}:5000"):
        with pytest.raises(RunFailed, match="does not answer") as caught:
            check(address)
        assert len(str(caught.value)) < 200
        assert "secret" not in str(caught.value)


def test_a_server_that_never_answers_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqi.tracking.server.ANSWER_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(RunFailed, match=r"does not answer \(Read timed out"):
            check(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - started < 5


def test_credentials_are_sent_as_mlflow_does() -> None:
    basic = "Basic " + base64.b64encode(b"user:secret").decode()
    with answering() as (address, requests):
        check(address.replace("//", "//user:secret@"))
        check(address, MLFLOW_TRACKING_USERNAME="user", MLFLOW_TRACKING_PASSWORD="secret")
        check(address, MLFLOW_TRACKING_TOKEN="abc")
        assert [authorization for _, authorization in requests] == [basic, basic, "Bearer abc"]


def test_certificates_are_trusted_as_mlflow_does(authority: tuple[Path, ssl.SSLContext]) -> None:
    with answering(tls=authority[1]) as (address, requests):
        with pytest.raises(RunFailed, match="CERTIFICATE_VERIFY_FAILED") as caught:
            check(address)
        assert len(str(caught.value)) < 200
        check(address, REQUESTS_CA_BUNDLE=str(authority[0]))
        check(address, MLFLOW_TRACKING_SERVER_CERT_PATH=str(authority[0]))
        check(address, MLFLOW_TRACKING_INSECURE_TLS="true")
        assert len(requests) == 3


def test_the_proxy_of_the_environment_is_used() -> None:
    with answering() as (address, _), forwarding("user:secret") as proxy:
        port = address.rpartition(":")[2]
        check(address, HTTP_PROXY=f"http://user:secret@{proxy.address}")
        assert len(proxy.requests) == 1
        check(address, HTTP_PROXY="http://127.0.0.1:1", NO_PROXY=f"127.0.0.1:{port}")
        with pytest.raises(RunFailed, match=r"proxy http://127\.0\.0\.1:1: ") as caught:
            check(address, HTTP_PROXY="http://user:secret@127.0.0.1:1")
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_the_first_step_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = {"data": {"source": str(tmp_path)}, "backbone": {"name": "filterbank"}}
    untracked = Category.parse(values).parameters()
    images = {step: {"": f"here/{step}:1"} for step in DEVICE_STEPS}
    monkeypatch.setattr("vqi.tracking.server.PAUSE_SECONDS", 0.001)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with answering() as (address, requests):
        configure(Category.parse({**values, "tracking": {"uri": address}}).parameters(), images)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        configure(untracked, images)
        assert len(requests) == 2
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with pytest.raises(RunFailed, match="does not answer"):
        configure(untracked, images)
