"""A bundle in an object store: its versions, and what is not one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from s3_server import Server
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.serving.bundle_sources import StoreSource
from vqi.platform.errors import BadInput
from vqi.storage.object_store import Address, ObjectStore

BUNDLE = Address("vqi", "bundles/plates")


@pytest.fixture
def store(s3: Server) -> ObjectStore:
    store = ObjectStore.from_environment()
    store.make_bucket("vqi")
    return store


def test_each_version_is_brought_once_and_the_last_two_are_kept(
    store: ObjectStore, toy_bundle: Path, tmp_path: Path
) -> None:
    bundle, source = tmp_path / "bundle", StoreSource(store, BUNDLE, tmp_path / "cache")
    shutil.copytree(toy_bundle, bundle)
    folders = []
    for seed in range(3):
        sidecar = json.loads((bundle / "bundle.json").read_text())
        (bundle / "bundle.json").write_text(json.dumps({**sidecar, "seed": seed}))
        store.upload_folder(bundle, BUNDLE)
        folders.append(source.refresh())
        assert read_sidecar(folders[-1]).seed == seed
        assert source.refresh() == folders[-1]
    assert [folder.is_dir() for folder in folders] == [False, True, True]


def test_what_is_not_a_bundle_is_named(store: ObjectStore, toy_bundle: Path, tmp_path: Path) -> None:
    other = Address("vqi", "bundles/bolts")
    source = StoreSource(store, other, tmp_path / "cache")
    with pytest.raises(BadInput, match=r"is not a bundle: bundle\.json is missing in the store"):
        source.refresh()
    store.upload_folder(toy_bundle, other)
    store.write_text(Address("vqi", "bundles/bolts/no part of it"), "x")
    with pytest.raises(BadInput, match="'no part of it', which is not a file of a bundle"):
        source.refresh()
    assert not list((tmp_path / "cache").glob("*"))


def test_a_version_that_is_half_stored_is_brought_again(store: ObjectStore, toy_bundle: Path, tmp_path: Path) -> None:
    half = Address("vqi", "bundles/half")
    source = StoreSource(store, half, tmp_path / "cache")
    store.upload_folder(toy_bundle, half)
    store.write_text(Address("vqi", "bundles/half/model.onnx"), "of another version")
    with pytest.raises(BadInput, match="its SHA-256 differs"):
        source.refresh()
    store.upload_file(toy_bundle / "model.onnx", Address("vqi", "bundles/half/model.onnx"))
    assert read_sidecar(source.refresh()).name == "plates"
