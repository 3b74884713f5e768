"""Start the server, and end it so that what was accepted is answered."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vqi.deployment.serving.app import create_app
from vqi.deployment.serving.bundle_sources import BundleSource
from vqi.deployment.serving.decision_log import DecisionLog
from vqi.deployment.serving.metrics import Metrics
from vqi.deployment.serving.open_inference_grpc import GrpcServer
from vqi.deployment.serving.served_models import PredictorOptions, ServedModels
from vqi.deployment.serving.settings import ServeSettings
from vqi.platform.errors import BadInput, RunFailed

HEADER_SECONDS = 15
GRACE_SECONDS = 20

# Called with the ports of HTTP and gRPC (None without it), once requests are taken.
Started = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Certificate:
    """Files in PEM: the chain of certificates and its key."""

    chain: Path
    key: Path


def serve(
    sources: Mapping[str, BundleSource],
    options: PredictorOptions,
    settings: ServeSettings,
    token: str = "",
    certificate: Certificate | None = None,
    started: Started | None = None,
    hand_over_stop: Callable[[Callable[[], None]], None] | None = None,
) -> None:
    """Serve bundles by name until SIGTERM or SIGINT; then answer what was accepted and return.

    `hand_over_stop` gets what ends the server from another thread, where signals do not arrive.
    Raises BadInput where a bundle or the certificate cannot be used, RunFailed where a port is taken.
    """
    if certificate:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate.chain, certificate.key)
        except (OSError, ssl.SSLError) as error:
            raise BadInput(
                f"The certificate {certificate.chain} with the key {certificate.key} cannot be used: {error}."
            ) from error
    listening = _bind(settings)
    try:
        asyncio.run(_serve(listening, sources, options, settings, token, certificate, started, hand_over_stop))
    finally:
        listening.close()


def _bind(settings: ServeSettings) -> socket.socket:
    # By its protocol asyncio knows a TCP socket, and sends small answers at once: without, each waits 40 ms for an ACK.
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise RunFailed(f"{settings.host}, port {settings.port}, cannot be listened at: {error.strerror}.") from error
    return listening


async def _serve(
    listening: socket.socket,
    sources: Mapping[str, BundleSource],
    options: PredictorOptions,
    settings: ServeSettings,
    token: str,
    certificate: Certificate | None,
    started: Started | None,
    hand_over_stop: Callable[[Callable[[], None]], None] | None,
) -> None:
    metrics = Metrics()
    decisions = DecisionLog(Path(settings.decisions) if settings.decisions else None)
    models = ServedModels(sources, options, settings, metrics, decisions)
    grpc = None
    try:
        await models.open()
        if settings.grpc_port is not None:
            pem = (certificate.chain.read_bytes(), certificate.key.read_bytes()) if certificate else None
            grpc = GrpcServer(models, settings, token, pem)
            await grpc.start()
        config = uvicorn.Config(
            create_app(models, settings, metrics, decisions, token),
            http=PatientProtocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=settings.connections,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ssl_certfile=str(certificate.chain) if certificate else None,
            ssl_keyfile=str(certificate.key) if certificate else None,
        )
        ports = listening.getsockname()[1], grpc.port if grpc else None
        server = _Server(config, started, ports)
        if hand_over_stop:
            hand_over_stop(lambda: setattr(server, "should_exit", True))
        await server.serve(sockets=[listening])
    finally:
        if grpc:
            await grpc.stop(GRACE_SECONDS)
        await models.close()
        decisions.close()


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's, but a connection that completes no request's head within HEADER_SECONDS is closed: thousands of them
    would otherwise keep everybody out."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._header_timer = self.loop.call_later(HEADER_SECONDS, transport.close)

    def on_headers_complete(self) -> None:
        self._header_timer.cancel()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._header_timer.cancel()
        super().connection_lost(exc)


class _Server(uvicorn.Server):
    """uvicorn's, which ends on a signal without being killed by it afterwards."""

    def __init__(self, config: uvicorn.Config, started: Started | None, ports: tuple[int, int | None]) -> None:
        super().__init__(config)
        self._report, self._ports = started, ports

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._report:
            self._report(*self._ports)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        try:
            for number in signals:
                loop.add_signal_handler(number, self.handle_exit, number, None)
        except (ValueError, RuntimeError):  # not in the main thread: whoever started this thread ends it
            yield
            return
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)
