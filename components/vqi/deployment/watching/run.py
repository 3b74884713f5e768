"""Watch a source until it ends, or until this process is asked to end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vqi.deployment.opened_bundle import OpenedBundle
from vqi.deployment.watching.deciding import Decider
from vqi.deployment.watching.delivery import Delivery
from vqi.deployment.watching.following import FollowedBundle
from vqi.deployment.watching.metrics import Metrics
from vqi.deployment.watching.outbox import Outbox
from vqi.deployment.watching.settings import WatchSettings
from vqi.deployment.watching.sinks import Sink, open_sink
from vqi.deployment.watching.sinks.folder import FolderSink
from vqi.deployment.watching.sources import Source, open_source
from vqi.platform.errors import BadInput, RunFailed, VqiError
from vqi.platform.files import locked
from vqi.platform.logs import logger

log = logger(__name__)

LOCK = "lock"
# How long a full outbox is left alone.
FULL_SECONDS = 0.2


def watch(
    bundle: FollowedBundle,
    source: str,
    sinks: Sequence[str],
    state: Path,
    settings: WatchSettings,
    stop: threading.Event,
    started: Callable[[str, Sequence[str], int | None], None] | None = None,
) -> int:
    """Decide on what comes from `source` until it ends or `stop` is set; returns how many decisions were kept.

    A new version of `bundle` takes over between two batches. `started` is called with the source, the sinks and the
    port of Prometheus as people read them. Raises BadInput where an address or a folder cannot be used, RunFailed where
    decisions cannot be kept or, at the end of a source, not all were delivered.
    """
    state.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(locked(state / LOCK, 0, f"The state folder {state}"))
        first = bundle.newest
        opened = [open_sink(address, settings, description_of(first)) for address in dict.fromkeys(sinks)]
        names = [sink.name for sink in opened]
        if len(set(names)) < len(names):
            raise BadInput(f"Two sinks are {next(name for name in names if names.count(name) > 1)}; name one of them.")
        outbox = Outbox(state, names, settings.buffer)
        stack.callback(outbox.close)
        origin = open_source(source, settings, outbox)
        stack.callback(origin.close)
        metrics = None
        if settings.metrics_port is not None:
            metrics = Metrics(settings.metrics_host, settings.metrics_port, outbox, description_of(first))
            stack.callback(metrics.close)
        pictures = settings.pictures if any(isinstance(sink, FolderSink) for sink in opened) else "none"
        decider = Decider(bundle, origin, outbox, pictures, metrics)
        stack.callback(decider.close)
        _report_leftovers(outbox, names, state)
        if started:
            started(origin.label, names, metrics.port if metrics else None)
        bundle.start()
        stack.callback(bundle.close)

        def announce() -> None:
            nonlocal first
            if bundle.newest is not first:
                first = bundle.newest
                for sink in opened:
                    sink.announce(description_of(first))
                if metrics:
                    metrics.announce(description_of(first))

        with _delivering(opened, outbox, settings.flush_seconds, metrics) as deliveries:
            _decide(decider, origin, outbox, deliveries, stop, announce)
        left = {name: number for name, number in outbox.waiting().items() if number and name in names}
    if left:
        sentence = "; ".join(f"{name} has not yet {number} decisions" for name, number in left.items())
        sentence = f"{sentence}: they wait in {state} and are delivered at the next start."
        if not stop.is_set():
            raise RunFailed(sentence)
        log.warning(sentence)
    return decider.count


def description_of(bundle: OpenedBundle) -> dict[str, str]:
    """What decides, as sinks and Prometheus say it."""
    return {"bundle": bundle.predictor.sidecar.name, "version": bundle.version}


def _decide(
    decider: Decider,
    source: Source,
    outbox: Outbox,
    deliveries: Sequence[Delivery],
    stop: threading.Event,
    announce: Callable[[], None],
) -> None:
    full = False
    while not stop.is_set():
        announce()
        for delivery in deliveries:
            if delivery.failure:
                raise _failed(delivery.sink, delivery.failure)
        room = outbox.room()
        if (room <= 0) != full:
            full = room <= 0
            log.warning(
                "As many decisions wait for sinks as may be kept (--buffer): photographs wait until one is delivered."
                if full
                else "Photographs are decided on again."
            )
        if full:
            stop.wait(FULL_SECONDS)
        elif decider.take():
            decider.decide(room)
        elif source.ended:
            return
        else:
            stop.wait(source.pause)


@contextmanager
def _delivering(
    sinks: Sequence[Sink], outbox: Outbox, flush_seconds: float, metrics: Metrics | None
) -> Iterator[list[Delivery]]:
    """Deliver while the block runs; at its end, what is left within the time."""
    deliveries = [Delivery(sink, outbox, metrics.count_failure if metrics else None) for sink in sinks]
    for delivery in deliveries:
        delivery.start()
    try:
        yield deliveries
    finally:
        deadline = time.monotonic() + flush_seconds
        for delivery in deliveries:
            delivery.finish(deadline)
        for delivery in deliveries:
            delivery.join()
    for delivery in deliveries:
        if delivery.failure:
            raise _failed(delivery.sink, delivery.failure)


def _failed(sink: Sink, failure: BaseException) -> VqiError:
    if isinstance(failure, VqiError):
        return failure
    return RunFailed(
        f"Decisions cannot be delivered to {sink.name} ({type(failure).__name__}: {failure}); see its log."
    )


def _report_leftovers(outbox: Outbox, names: Sequence[str], state: Path) -> None:
    for name, number in outbox.waiting().items():
        if number and name not in names:
            log.warning(f"{number} decisions in {state} wait for {name}, which is not a sink of this start.")


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
