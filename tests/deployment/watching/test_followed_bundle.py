"""A new version takes over between two batches; one that scores otherwise is refused."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import urllib3

from line import appear, decisions, wait_until
from vqi.deployment.bundle import bundle_version
from vqi.deployment.predictor import Predictor
from vqi.deployment.serving.bundle_sources import FolderSource, StoreSource
from vqi.deployment.watching.following import FollowedBundle
from vqi.deployment.watching.run import watch
from vqi.deployment.watching.settings import WatchSettings
from vqi.platform.errors import BadInput
from vqi.storage.object_store import Address, ObjectStore


def open_predictor(folder: Path) -> Predictor:
    return Predictor(folder, "onnxruntime", threads=1, batch_size=1)


def new_version(bundle: Path, folder: Path, **changes: object) -> Path:
    shutil.copytree(bundle, folder)
    sidecar = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**sidecar, **changes}))
    return folder


def replace(link: Path, target: Path) -> None:
    new = link.with_name("new-link")
    new.symlink_to(target)
    new.replace(link)


def test_decisions_go_on_by_the_new_version_and_a_bad_one_is_refused(
    toy_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    second = new_version(toy_bundle, tmp_path / "second", seed=7)
    bad = new_version(toy_bundle, tmp_path / "bad", golden={"scores": {"float32": [5.0, 6.0]}})
    link = tmp_path / "bundle"
    replace(link, toy_bundle)
    followed = FollowedBundle(FolderSource(link), open_predictor, 0.02)
    stop, ports = threading.Event(), list[int]()
    settings = WatchSettings(settle_seconds=0, poll_seconds=0.01, metrics_port=0)
    out = tmp_path / "out"
    arguments = (followed, str(tmp_path / "in"), [str(out)], tmp_path / "state", settings, stop)
    appear(tmp_path / "in", "a.png")
    thread = threading.Thread(target=watch, args=(*arguments, lambda *known: ports.append(known[2])), daemon=True)
    thread.start()
    wait_until(lambda: len(decisions(out)) == 1)
    replace(link, second)
    wait_until(lambda: followed.newest.version == bundle_version(second))
    appear(tmp_path / "in", "b.png")
    wait_until(lambda: len(decisions(out)) == 2)
    replace(link, bad)
    wait_until(lambda: "the new one is refused" in caplog.text)
    appear(tmp_path / "in", "c.png")
    wait_until(lambda: len(decisions(out)) == 3)
    read = urllib3.request("GET", f"http://127.0.0.1:{ports[0]}/metrics").data.decode()
    stop.set()
    thread.join(30)
    first, later = bundle_version(toy_bundle), bundle_version(second)
    assert [each["version"] for each in decisions(out)] == [first, later, later]
    assert f'vqi_watch_info{{bundle="plates",version="{later}"}} 1.0' in read
    assert first not in read
    assert f"Version {later} of plates took over from {first}." in caplog.text
    assert caplog.text.count("the new one is refused") == 1  # though it is tried again and again


def test_what_was_decoded_for_a_version_is_decided_on_by_it(toy_bundle: Path, tmp_path: Path) -> None:
    """Another version may see photographs at another size."""
    from vqi.deployment.watching.deciding import Decider
    from vqi.deployment.watching.outbox import Outbox
    from vqi.deployment.watching.sources import open_source

    settings = WatchSettings(settle_seconds=0, poll_seconds=0.01)
    for name in ("a.png", "b.png", "c.png"):
        appear(tmp_path / "in", name)
    second = new_version(toy_bundle, tmp_path / "second", seed=7)
    replace(tmp_path / "bundle", toy_bundle)
    followed = FollowedBundle(FolderSource(tmp_path / "bundle"), open_predictor, 0.0)
    (tmp_path / "state").mkdir()
    outbox = Outbox(tmp_path / "state", ["out"], 100)
    decider = Decider(followed, open_source(str(tmp_path / "in"), settings, outbox), outbox, "none")
    assert decider.take()  # two, for the first version
    replace(tmp_path / "bundle", second)
    followed._check()
    for _ in range(3):
        decider.take()
        decider.decide(10)
    decider.close()
    lines = []
    while pending := outbox.next("out"):
        lines.append(json.loads(pending.line))
        outbox.confirm("out", pending)
    outbox.close()
    first, later = bundle_version(toy_bundle), bundle_version(second)
    assert [(line["image"], line["version"]) for line in lines] == [
        ("a.png", first),
        ("b.png", first),
        ("c.png", later),
    ]


def test_a_bundle_in_a_store_is_followed(toy_bundle: Path, tmp_path: Path, bucket: str) -> None:
    store, address = ObjectStore.from_environment(), Address(bucket, "bundles/plates")
    store.upload_folder(toy_bundle, address)
    followed = FollowedBundle(StoreSource(store, address, tmp_path / "cache"), open_predictor, 0.0)
    assert followed.newest.version == bundle_version(toy_bundle)
    second = new_version(toy_bundle, tmp_path / "second", seed=7)
    store.upload_folder(second, address)
    followed._check()
    assert followed.newest.version == bundle_version(second)
    assert np.isfinite(followed.newest.predictor.sidecar.thresholds.image)


def test_a_first_version_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a bundle"):
        FollowedBundle(FolderSource(tmp_path), open_predictor, 0.0)
