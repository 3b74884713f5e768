"""The newest version of a bundle that may decide: looked for beside the decisions, taken over between two batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from vqi.deployment.bundle import bundle_version
from vqi.deployment.opened_bundle import RETRY_REFUSED, OpenedBundle, open_bundle
from vqi.deployment.predictor import Predictor
from vqi.deployment.serving.bundle_sources import BundleSource
from vqi.platform.errors import VqiError
from vqi.platform.logs import logger

log = logger(__name__)


class FollowedBundle:
    """A bundle whose `newest` version changes where `source` holds another that scores its golden photographs as its
    sidecar says; one that does not is refused, and the one before decides on.

    `seconds` between two looks, 0: the first version stays. Raises what `open_bundle` does for the first version.
    """

    def __init__(self, source: BundleSource, open_predictor: Callable[[Path], Predictor], seconds: float) -> None:
        self._source, self._open, self._seconds = source, open_predictor, seconds
        self._newest = open_bundle(source.refresh(), open_predictor)
        self._refused, self._refused_at = "", 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="new versions", daemon=True)

    @property
    def newest(self) -> OpenedBundle:
        return self._newest

    def start(self) -> None:
        if self._seconds:
            self._thread.start()

    def close(self) -> None:
        """End the looking; a version that is being loaded is waited for a moment."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._check()

    def _check(self) -> None:
        served, version = self._newest.version, ""
        try:
            folder = self._source.refresh()
            version = bundle_version(folder)
            waits = time.monotonic() - self._refused_at < RETRY_REFUSED * self._seconds
            if version == served or (version == self._refused and waits):
                return
            self._newest = open_bundle(folder, self._open)
        except (VqiError, OSError) as error:
            # Without a version it is being replaced, or the store is away.
            if version:
                again, self._refused, self._refused_at = version == self._refused, version, time.monotonic()
                report = log.debug if again else log.warning
                report(f"Version {served} decides on, since the new one is refused: {error}")
            return
        log.info(f"Version {self._newest.version} of {self._newest.predictor.sidecar.name} took over from {served}.")
