"""What Prometheus reads of a watch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vqi.deployment.watching.outbox import Outbox
from vqi.platform.errors import BadInput, RunFailed

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """The counters of one watch, read over HTTP until `close`. `port` is the one that is listened at.

    Raises BadInput where prometheus-client is missing, RunFailed where the port is taken.
    """

    def __init__(self, host: str, port: int, outbox: Outbox, description: Mapping[str, str]) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
        except ImportError as error:
            raise BadInput("--metrics-port needs prometheus-client; pip install 'vqi[watch]'.") from error
        registry = CollectorRegistry()
        self._decisions = Counter("vqi_watch_decisions", "Decisions by kind.", ("decision",), registry=registry)
        self._failures = Counter(
            "vqi_watch_sink_failures", "Attempts to deliver that failed, by sink.", ("sink",), registry=registry
        )
        self._seconds = Histogram(
            "vqi_watch_decision_seconds",
            "Seconds from taking a photograph in hand to its decision being kept.",
            buckets=SECONDS,
            registry=registry,
        )
        self._last = Gauge(
            "vqi_watch_last_decision_timestamp_seconds", "When the last decision was kept.", registry=registry
        )
        self._info = Gauge("vqi_watch_info", "1 for what runs.", ("bundle", "version"), registry=registry)
        self.announce(description)
        waiting = Gauge("vqi_watch_waiting_decisions", "Decisions that a sink has not.", ("sink",), registry=registry)

        def count(sink: str) -> Callable[[], float]:
            return lambda: float(outbox.waiting().get(sink, 0))

        for sink in outbox.waiting():
            waiting.labels(sink).set_function(count(sink))
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise RunFailed(f"{host}, port {port}, cannot be listened at: {error.strerror}.") from error
        self.port: int = self._server.server_port

    def announce(self, description: Mapping[str, str]) -> None:
        """What decides from here on: `bundle` and `version`."""
        self._info.clear()
        self._info.labels(**description).set(1)

    def count_decision(self, decision: str, taken: float, now: float) -> None:
        self._decisions.labels(decision).inc()
        self._seconds.observe(max(0.0, now - taken))
        self._last.set(now)

    def count_failure(self, sink: str) -> None:
        self._failures.labels(sink).inc()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
