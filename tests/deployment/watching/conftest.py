from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from vqi.deployment.predictor import Predictor
from vqi.deployment.serving.bundle_sources import FolderSource
from vqi.deployment.watching.following import FollowedBundle
from vqi.deployment.watching.run import watch
from vqi.deployment.watching.settings import WatchSettings

Watch = Callable[..., int]


@pytest.fixture(scope="session")
def predictor(toy_bundle: Path) -> Predictor:
    return Predictor(toy_bundle, "onnxruntime", threads=1)


@pytest.fixture
def watch_once(predictor: Predictor, toy_bundle: Path, tmp_path: Path) -> Watch:
    """Watch `source` until it holds nothing that is not decided; the number of decisions."""

    def run(source: Path | str, sinks: Sequence[str], stop: threading.Event | None = None, **settings: object) -> int:
        chosen = {"once": True, "settle_seconds": 0, "poll_seconds": 0.01, "flush_seconds": 5, **settings}
        bundle = FollowedBundle(FolderSource(toy_bundle), lambda _: predictor, 0)
        return watch(bundle, str(source), sinks, tmp_path / "state", WatchSettings(**chosen), stop or threading.Event())

    return run
