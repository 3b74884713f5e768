"""A server that follows an alias: what is promoted takes over without a failed request."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from serving_server import png, running
from toy_bundle import photograph
from vqi.dataset.settings import DataSettings
from vqi.registry.promotion import promote, roll_back
from vqi.registry.registering import register_bundle
from vqi.registry.settings import PromoteSettings
from vqi.registry.source import RegistrySource
from vqi.tracking.registry import CHAMPION, ModelAddress, open_registry

RULE = PromoteSettings(max_latency_ratio=1000)


def test_the_champion_is_served_whoever_it_is(
    registry_uri: str, name: str, variant: Any, tested: Path, tmp_path: Path
) -> None:
    data = DataSettings(source=str(tested))
    register_bundle(variant("first"), name)
    promote(name, RULE, data)
    source = RegistrySource(ModelAddress(name, CHAMPION), "", tmp_path / "served")
    good, statuses, ended = png(photograph(33)), [], threading.Event()
    with running({name: source}, reload_seconds=0.2) as server:

        def version() -> str:
            return str(server.request("GET", f"/v2/models/{name}").json()["versions"][0])

        def ask() -> None:
            while not ended.is_set():
                statuses.append(server.request("POST", "/predict", body=good).status)

        def wait_for(another: str) -> str:
            deadline = time.monotonic() + 60
            while (now := version()) == another and time.monotonic() < deadline:
                time.sleep(0.1)
            return now

        first = version()
        client = threading.Thread(target=ask)
        client.start()
        register_bundle(variant("second", factor=1.01), name)
        promote(name, RULE, data)
        second = wait_for(first)
        assert second != first
        # A version that cannot be used does not take over: its alias points at what is no bundle.
        (tmp_path / "else").mkdir()
        (tmp_path / "else" / "notes.txt").write_text("no bundle")
        with open_registry() as registry:
            broken = registry.create(name, [tmp_path / "else"], {}, "", "vqi")
            registry.set_alias(name, CHAMPION, broken.version)
        time.sleep(1)
        assert version() == second
        assert roll_back(name)[0].version == 2
        roll_back(name)
        assert wait_for(second) == first
        ended.set()
        client.join(30)
    assert set(statuses) == {200}
    assert len(statuses) > 10
