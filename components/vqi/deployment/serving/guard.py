"""What stands before every route: who may ask, how large and how slow a request may be, and how long an answer takes.

A request's body is held in memory, so the bodies of all requests have a bound together. A request whose client is gone
is cancelled. ASGI, so that nothing of a framework runs before a request is admitted.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from contextlib import suppress
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vqi.deployment.serving.metrics import Metrics
from vqi.deployment.serving.paddlex_answers import PADDLEX_ROUTES, paddlex_error
from vqi.deployment.serving.refusals import Busy, Expired, Late, Refusal, TooLarge, Unauthorised
from vqi.deployment.serving.settings import ServeSettings
from vqi.platform.logs import logger

log = logger(__name__)

LINGER_SECONDS = 2.0
# nginx's word for a client that went before there was an answer.
NOT_ANSWERED = 499
# Kubernetes and load balancers ask these without a token; they say nothing of what is served.
OPEN_ROUTES = ("/health", "/v2/health/live", "/v2/health/ready")


class Guard:
    """The bounds of ServeSettings around an application. `token`: what `Authorization: Bearer` must hold, "" for
    nothing."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics, token: str = "") -> None:
        self._app, self._settings, self._metrics, self._token = app, settings, metrics, token
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer, incoming = _Answer(send), _Incoming(receive)
        started, parts = time.monotonic(), list[bytes]()
        try:
            self._authorise(scope)
            await self._receive(scope, incoming, parts)
            await self._run(scope, b"".join(parts), incoming, answer)
        except Refusal as refusal:
            await incoming.discard()
            await answer.refuse(scope["path"], refusal)
        finally:
            self._held -= sum(map(len, parts))
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(answer.status)).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - started)

    def _authorise(self, scope: Scope) -> None:
        if not self._token or scope["path"] in OPEN_ROUTES:
            return
        carried = _header(scope, b"authorization")
        kind, _, token = carried.partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self._token.encode()):
            raise Unauthorised("This server wants a token: Authorization: Bearer TOKEN.")

    async def _receive(self, scope: Scope, receive: Receive, parts: list[bytes]) -> None:
        """Take the whole body into `parts`. Raises TooLarge, Busy where there is no room for it, and Late where it does
        not come."""
        most = self._settings.body_mib << 20
        length = _header(scope, b"content-length")
        if length.isdecimal() and int(length) > most:
            raise TooLarge(f"The request has more than {self._settings.body_mib} MiB.")
        size = 0
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    size += len(message.get("body", b""))
                    if size > most:
                        raise TooLarge(f"The request has more than {self._settings.body_mib} MiB.")
                    if self._held + len(message.get("body", b"")) > self._settings.bodies_mib << 20:
                        raise Busy(f"Requests of {self._settings.bodies_mib} MiB are held already; try again.")
                    parts.append(message.get("body", b""))
                    self._held += len(parts[-1])
                    if not message.get("more_body"):
                        return
        except TimeoutError as error:
            raise Late(f"The request did not arrive within {self._settings.body_seconds:g} s.") from error

    async def _run(self, scope: Scope, body: bytes, receive: Receive, answer: _Answer) -> None:
        """The application with the body that was read, until it answers, its time is over or its client is gone."""
        delivered = False

        async def replay() -> Message:
            nonlocal delivered
            if delivered:
                return {"type": "http.disconnect"}
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}

        work = asyncio.ensure_future(self._app(scope, replay, answer.send))
        gone = asyncio.create_task(_until_gone(receive))
        try:
            done, _ = await asyncio.wait(
                (work, gone), timeout=self._settings.answer_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if work in done:
                work.result()
            elif gone not in done:
                raise Expired(f"There was no answer within {self._settings.answer_seconds:g} s.")
        finally:
            for task in (work, gone):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task


class _Gone(Refusal):
    """The client went before its request was whole; nobody reads the answer."""

    status = NOT_ANSWERED


class _Incoming:
    """Receives, and knows whether the whole request came."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self._ended = message["type"] != "http.request" or not message.get("more_body")
        return message

    async def discard(self) -> None:
        """Let the rest of a refused request go by for a while: a client that is still sending would be cut off, and
        never read why."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._ended:
                    await self()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


class _Answer:
    """Sends, and knows what was sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = NOT_ANSWERED

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)

    async def refuse(self, path: str, refusal: Refusal) -> None:
        if self.status != NOT_ANSWERED:
            return
        content = json.dumps(error_body(path, refusal.status, str(refusal))).encode()
        headers = {"content-type": "application/json", "content-length": str(len(content)), **refusal.headers}
        # What was not read of a request would be taken for the next one.
        headers["connection"] = "close"
        with suppress(OSError, RuntimeError):
            await self.send(
                {
                    "type": "http.response.start",
                    "status": refusal.status,
                    "headers": [(key.lower().encode(), value.encode()) for key, value in headers.items()],
                }
            )
            await self.send({"type": "http.response.body", "body": content})


def error_body(path: str, status: int, sentence: str) -> dict[str, Any]:
    """An error in the words of the protocol that a path belongs to."""
    return paddlex_error(status, sentence) if path in PADDLEX_ROUTES else {"error": sentence}
