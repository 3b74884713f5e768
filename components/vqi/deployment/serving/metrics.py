"""What Prometheus reads: requests, latency, the queue, batch sizes, scores and decisions."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from vqi.deployment.predictor import Prediction, Unreadable
from vqi.deployment.sidecar import Sidecar

SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60)
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 32)
POSITIONS = (-1, -0.5, 0, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "vqi_requests", "Requests by route and HTTP status.", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "vqi_request_seconds",
            "Seconds from a request's first byte to its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.waiting = Gauge(
            "vqi_queue_photographs", "Photographs accepted and not answered yet.", registry=self.registry
        )
        self.reloads = Counter(
            "vqi_reloads",
            "New versions of a bundle, by what became of them.",
            ("model", "result"),
            registry=self.registry,
        )
        self.versions = Gauge(
            "vqi_model_info",
            "1 for the version that is served.",
            ("model", "version", "backend"),
            registry=self.registry,
        )
        self.decisions = Counter(
            "vqi_photographs", "Photographs by what was decided.", ("model", "decision"), registry=self.registry
        )
        self.positions = Histogram(
            "vqi_score_position",
            "Score of a photograph, 0 where that of the median good one lies and 1 at the threshold.",
            ("model",),
            buckets=POSITIONS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "vqi_batch_photographs", "Photographs a batch.", ("model",), buckets=BATCHES, registry=self.registry
        )
        self.graph = Histogram(
            "vqi_graph_seconds", "Seconds a batch in the graph.", ("model",), buckets=SECONDS, registry=self.registry
        )


class ModelMetrics:
    """Those of one bundle."""

    def __init__(self, metrics: Metrics, name: str, sidecar: Sidecar) -> None:
        self._decisions = metrics.decisions
        self._positions = metrics.positions.labels(name)
        self._batches, self._graph = metrics.batches.labels(name), metrics.graph.labels(name)
        self._name, self._threshold = name, sidecar.thresholds.image
        scores = sorted(entry.score for entry in sidecar.calibration.scores)
        self._median = scores[len(scores) // 2]

    def count_batch(self, photographs: int, seconds: float) -> None:
        self._batches.observe(photographs)
        self._graph.observe(seconds)

    def count_result(self, result: Prediction | Unreadable) -> None:
        if isinstance(result, Unreadable):
            self._decisions.labels(self._name, "unreadable").inc()
            return
        self._decisions.labels(self._name, result.decision).inc()
        height = self._threshold - self._median
        if height > 0:
            self._positions.observe((result.score - self._median) / height)
