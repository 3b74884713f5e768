"""From photographs to decisions: decode beside the graph, keep each decision, draw pictures where they are wanted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np

from vqi.deployment.opened_bundle import OpenedBundle
from vqi.deployment.predictor import (
    Prediction,
    Predictor,
    PreparedImage,
    Unreadable,
    pixels_of,
    read_photograph,
)
from vqi.deployment.serving.drawn import picture_of
from vqi.deployment.watching.decision_record import DecisionRecord, decision_of
from vqi.deployment.watching.following import FollowedBundle
from vqi.deployment.watching.metrics import Metrics
from vqi.deployment.watching.outbox import Outbox, Pending
from vqi.deployment.watching.settings import Pictures
from vqi.deployment.watching.sources import Photograph, Source
from vqi.platform.errors import BadInput
from vqi.platform.logs import logger

log = logger(__name__)


@dataclass(frozen=True)
class Decoding:
    """A photograph that is being decoded for the version that will decide on it."""

    photograph: Photograph
    bundle: OpenedBundle
    image: Future[PreparedImage | Unreadable]


class Decider:
    """Decides on photographs of `source`, one batch at a time, with at most one batch being decoded meanwhile. A
    photograph is decoded and decided on by the version that was the newest when it was taken.

    `pictures`: which decisions a picture is kept of, in the outbox, for sinks that take them.
    """

    def __init__(
        self,
        bundle: FollowedBundle,
        source: Source,
        outbox: Outbox,
        pictures: Pictures,
        metrics: Metrics | None = None,
    ) -> None:
        self._bundle, self._source, self._outbox = bundle, source, outbox
        self._pictures, self._metrics = pictures, metrics
        self._pool = ThreadPoolExecutor(bundle.newest.predictor.threads, "decoding")
        self._waiting: list[Decoding] = []
        self.count = 0

    def close(self) -> None:
        """Give back what was taken and not decided on."""
        for decoding in self._waiting:
            decoding.image.cancel()
        self._source.release([decoding.photograph for decoding in self._waiting])
        self._waiting = []
        self._pool.shutdown()

    def take(self) -> bool:
        """Take photographs in hand; whether there are any."""
        newest = self._bundle.newest
        most = 2 * newest.predictor.photographs if self._source.waits else 1
        if self._source.waits or not self._waiting:
            for photograph in self._source.take(most - len(self._waiting)):
                image = self._pool.submit(_prepare, photograph, newest.predictor)
                self._waiting.append(Decoding(photograph, newest, image))
        return bool(self._waiting)

    def decide(self, room: int) -> None:
        """Decide on a batch of what is in hand, at most `room`. Raises RunFailed where decisions cannot be kept."""
        bundle = self._waiting[0].bundle
        predictor, version = bundle.predictor, bundle.version
        size = min(predictor.photographs, room)
        batch = list(takewhile(lambda decoding: decoding.bundle is bundle, self._waiting[:size]))
        self._waiting = self._waiting[len(batch) :]
        results = predictor.predict_prepared([decoding.image.result() for decoding in batch])
        decided: list[tuple[Photograph, DecisionRecord]] = []
        pending: list[Pending] = []
        for decoding, result in zip(batch, results, strict=True):
            photograph = decoding.photograph
            partial = isinstance(result, Unreadable) and self._source.may_grow(photograph)
            if partial or not self._source.is_unchanged(photograph):
                # It was not whole after all, or is another by now: it comes again.
                self._source.release([photograph])
                continue
            record = decision_of(
                photograph,
                result,
                self._source.label,
                predictor.sidecar.name,
                version,
                predictor.sidecar.thresholds.image,
            )
            pending.append(Pending(0, record.id, record.line(), self._picture(photograph, result, predictor)))
            decided.append((photograph, record))
        self._outbox.add(pending, [photograph.key for photograph, _ in decided if photograph.key])
        self._source.finish([photograph for photograph, _ in decided])
        self.count += len(decided)
        self._report(decided)

    def _report(self, decided: Sequence[tuple[Photograph, DecisionRecord]]) -> None:
        now = time.time()
        for photograph, record in decided:
            if record.error:
                log.warning(record.error)
            if self._metrics:
                self._metrics.count_decision(record.decision, photograph.at, now)

    def _picture(self, photograph: Photograph, result: Prediction | Unreadable, predictor: Predictor) -> bytes | None:
        if self._pictures == "none" or isinstance(result, Unreadable):
            return None
        if self._pictures == "defects" and result.decision != "defect":
            return None
        content, decoding = photograph.content, predictor.sidecar.decoding
        try:
            # Decoded a second time: the originals of a whole batch may be gigabytes.
            if isinstance(content, Path):
                pixels = read_photograph(content, decoding)
            else:
                assert isinstance(content, np.ndarray)
                pixels = pixels_of(content, photograph.name, decoding)
        except BadInput as error:
            log.warning(f"The picture of {photograph.name} cannot be drawn: {error}")
            return None
        return picture_of(pixels, result.map, result.boxes, result.level, predictor.sidecar)


def _prepare(photograph: Photograph, predictor: Predictor) -> PreparedImage | Unreadable:
    content = photograph.content
    if isinstance(content, str):
        return Unreadable(photograph.name, content)
    return predictor.prepare(content if isinstance(content, Path) else (photograph.name, content))
