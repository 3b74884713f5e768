"""The bundles of a server by name, and how a new version takes over from the old one without a failed request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vqi.deployment.bundle import bundle_version
from vqi.deployment.opened_bundle import RETRY_REFUSED, open_bundle
from vqi.deployment.predictor import ImageSource, Prediction, Predictor, Unreadable
from vqi.deployment.serving.batcher import MicroBatcher
from vqi.deployment.serving.bundle_sources import BundleSource
from vqi.deployment.serving.decision_log import DecisionLog
from vqi.deployment.serving.metrics import Metrics, ModelMetrics
from vqi.deployment.serving.refusals import Busy, NotServed
from vqi.deployment.serving.settings import ServeSettings
from vqi.platform.errors import VqiError
from vqi.platform.logs import logger

log = logger(__name__)


@dataclass(frozen=True)
class PredictorOptions:
    """How bundles are opened (see Predictor)."""

    backend: str = "auto"
    device: str = "cpu"
    threads: int = 0
    batch_size: int = 0

    def open(self, folder: Path) -> Predictor:
        """The bundle in a folder. Raises what Predictor does."""
        return Predictor(folder, self.backend, self.device, self.threads, self.batch_size)


@dataclass(frozen=True)
class ServedModel:
    """One version of a bundle, loaded."""

    name: str
    version: str
    predictor: Predictor
    batcher: MicroBatcher
    metrics: ModelMetrics


class ServedModels:
    """What is served, and the room that photographs take. Lives in one event loop; `open` comes first.

    `sources` hold bundles, by the name they are served under. Raises BadInput (from `open`) where one cannot be used.
    """

    def __init__(
        self,
        sources: Mapping[str, BundleSource],
        options: PredictorOptions,
        settings: ServeSettings,
        metrics: Metrics,
        decisions: DecisionLog,
    ) -> None:
        self._decisions = decisions
        self._sources, self._options, self._settings, self._metrics = dict(sources), options, settings, metrics
        self._models: dict[str, ServedModel] = {}
        self._refused: dict[str, tuple[str, float]] = {}
        self._underway = 0
        self._decoders: ThreadPoolExecutor | None = None
        self._loading = asyncio.Lock()
        self._retired: set[asyncio.Task[None]] = set()
        self._following: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Load every bundle and begin to look for new versions."""
        for name, source in self._sources.items():
            self._take_over(await self._load(name, await asyncio.to_thread(source.refresh)))
        if self._settings.reload_seconds:
            self._following = asyncio.create_task(self._follow_versions())

    async def close(self) -> None:
        """Answer what is waiting, then end."""
        if self._following:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
        await asyncio.gather(*(model.batcher.close() for model in self._models.values()), *self._retired)
        if self._decoders:
            self._decoders.shutdown()

    @property
    def names(self) -> list[str]:
        return list(self._models)

    def model(self, name: str = "", version: str = "") -> ServedModel:
        """A bundle by name, and by version where one is given; the only one without a name. Raises NotServed."""
        if not name and len(self._models) == 1:
            return next(iter(self._models.values()))
        served = ", ".join(self._models)
        if not name:
            raise NotServed(f"Several bundles are served ({served}): name one.")
        if name not in self._models:
            raise NotServed(f"No bundle {name!r} is served; there are: {served}.")
        model = self._models[name]
        if version and version != model.version:
            raise NotServed(f"The bundle {name} is served in version {model.version}, not {version!r}.")
        return model

    async def predict(
        self, name: str, version: str, images: Sequence[ImageSource]
    ) -> tuple[ServedModel, list[Prediction | Unreadable]]:
        """The version that answered, and one result an image, in order. Raises NotServed, and Busy where more would
        wait than the queue holds."""
        model = self.model(name, version)
        if self._underway + len(images) > self._settings.queue:
            seconds = max(1, round(self._underway * model.batcher.seconds_an_image))
            raise Busy(
                f"{self._underway} photographs are waiting and {self._settings.queue} are the most; try again in "
                f"{seconds} s.",
                seconds,
            )
        self._underway += len(images)
        self._metrics.waiting.set(self._underway)
        try:
            with model.batcher.reserve():
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(model.batcher.predict(image, number))
                        for number, image in enumerate(images, 1)
                    ]
        except BaseExceptionGroup as errors:
            # One cause, met by every photograph of the batch.
            raise errors.exceptions[0] from None
        finally:
            self._underway -= len(images)
            self._metrics.waiting.set(self._underway)
        results = [task.result() for task in tasks]
        for result in results:
            model.metrics.count_result(result)
        await asyncio.to_thread(self._keep, model, images, results)
        return model, results

    def _keep(
        self, model: ServedModel, images: Sequence[ImageSource], results: Sequence[Prediction | Unreadable]
    ) -> None:
        for image, result in zip(images, results, strict=True):
            content = image[1] if isinstance(image, tuple) and isinstance(image[1], bytes) else None
            self._decisions.add(model.name, model.version, model.predictor.sidecar, result, content)

    async def reload(self, name: str) -> bool:
        """Load the version that a bundle's folder holds now, where it is another; whether it took over.

        Raises NotServed for an unknown name, and what Predictor raises where the version cannot be used: the one that
        is served stays.
        """
        if name not in self._sources:
            raise NotServed(f"No bundle {name!r} is served; there are: {', '.join(self._sources)}.")
        async with self._loading:
            served = self._models[name]
            folder = await asyncio.to_thread(self._sources[name].refresh)
            if await asyncio.to_thread(bundle_version, folder) == served.version:
                return False
            try:
                self._take_over(await self._load(name, folder))
            except VqiError as error:
                self._metrics.reloads.labels(name, "refused").inc()
                log.warning(f"{name}: version {served.version} is served on, since the new one is refused: {error}")
                raise
        log.info(f"{name}: version {self._models[name].version} took over from {served.version}")
        return True

    async def _load(self, name: str, folder: Path) -> ServedModel:
        opened = await asyncio.to_thread(open_bundle, folder, self._options.open)
        predictor, version = opened.predictor, opened.version
        if self._decoders is None:
            self._decoders = ThreadPoolExecutor(predictor.threads, thread_name_prefix="decode")
        metrics = ModelMetrics(self._metrics, name, predictor.sidecar)
        batcher = MicroBatcher(predictor, self._settings.batch_wait_ms / 1000, self._decoders, metrics)
        return ServedModel(name, version, predictor, batcher, metrics)

    def _take_over(self, model: ServedModel) -> None:
        before = self._models.get(model.name)
        self._models[model.name] = model
        self._metrics.versions.labels(model.name, model.version, model.predictor.graph.backend).set(1)
        if before:
            self._metrics.versions.remove(before.name, before.version, before.predictor.graph.backend)
            self._metrics.reloads.labels(model.name, "served").inc()
            task = asyncio.create_task(before.batcher.close())
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)

    async def _follow_versions(self) -> None:
        while True:
            await asyncio.sleep(self._settings.reload_seconds)
            for name, source in self._sources.items():
                try:
                    version = await asyncio.to_thread(_version_at, source)
                except (VqiError, OSError):  # it is being replaced, or the store is away: what is loaded is served on
                    continue
                refused, when = self._refused.get(name, ("", 0.0))
                if version == refused and time.monotonic() - when < RETRY_REFUSED * self._settings.reload_seconds:
                    continue
                try:
                    await self.reload(name)
                except (VqiError, OSError):
                    self._refused[name] = (version, time.monotonic())


def _version_at(source: BundleSource) -> str:
    return bundle_version(source.refresh())
