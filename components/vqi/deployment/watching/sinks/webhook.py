"""A webhook: each decision is posted as JSON, signed where there is a secret."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Mapping

import urllib3

from vqi.deployment.watching.outbox import Pending
from vqi.deployment.watching.sinks import SinkAway, SinkRefused
from vqi.platform.proxies import proxy_of

SECRET = "VQI_WATCH_SECRET"
ID, TIMESTAMP, SIGNATURE = "Idempotency-Key", "X-Vqi-Timestamp", "X-Vqi-Signature"
# The body itself is what the receiver does not want: it will not want it later.
REFUSED = (400, 413, 415, 422)
LONGEST_WAIT = 300.0
# Longer answers are not read, and their connections are closed.
LONGEST_ANSWER = 4096


class WebhookSink:
    """Posts to `address`. Any 2xx says that a decision was taken; a receiver that saw the same Idempotency-Key before
    answers so and drops it. Redirects are not followed."""

    def __init__(self, address: str, timeout: float) -> None:
        self._address, self._timeout = address, timeout
        # An address may hold a token after the question mark.
        self.name = address.partition("?")[0]
        self._secret = os.environ.get(SECRET, "").encode()
        proxy = proxy_of(address, os.environ)
        self._pool = proxy.manager() if proxy else urllib3.PoolManager()

    def deliver(self, pending: Pending) -> None:
        body = pending.line.encode()
        headers = {"Content-Type": "application/json", ID: pending.id}
        if self._secret:
            now = str(int(time.time()))
            headers |= {TIMESTAMP: now, SIGNATURE: sign(self._secret, now, body)}
        try:
            answer = self._pool.request(
                "POST",
                self._address,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(total=self._timeout),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            _finish(answer)
        except urllib3.exceptions.HTTPError as error:
            raise SinkAway(_reason(error, self._timeout)) from error
        if answer.status in REFUSED:
            raise SinkRefused(f"status {answer.status}")
        if not 200 <= answer.status < 300:
            raise SinkAway(f"status {answer.status}", _seconds(answer.headers.get("Retry-After", "")))

    def announce(self, state: Mapping[str, object]) -> None: ...

    def close(self) -> None:
        self._pool.clear()


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """The signature of a request: HMAC-SHA256 (RFC 2104) of the timestamp, a full stop and the body."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _finish(answer: urllib3.BaseHTTPResponse) -> None:
    length = answer.headers.get("Content-Length", "")
    if answer.status == 204 or (length.isdecimal() and int(length) <= LONGEST_ANSWER):
        answer.drain_conn()
    else:
        answer.close()
    answer.release_conn()


def _reason(error: urllib3.exceptions.HTTPError, timeout: float) -> str:
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError | urllib3.exceptions.ReadTimeoutError):
        return f"no answer within {timeout:.0f} s"
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "no connection"
    return type(error).__name__


def _seconds(text: str) -> float:
    """Retry-After in seconds; its form as a date is not used."""
    return min(float(text), LONGEST_WAIT) if text.isdecimal() else 0.0
