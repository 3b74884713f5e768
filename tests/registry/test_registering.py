"""Bundles in the registry: versions, tags, aliases, addresses, and what MLflow itself makes of a version."""

from __future__ import annotations

import json
from pathlib import Path

import pandas
import pytest

from serving_server import png
from toy_bundle import photograph
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.predictor import Predictor
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.files import sha256_of
from vqi.registry.registering import register_bundle
from vqi.registry.source import RegistrySource, bundle_folder
from vqi.tracking.registry import ModelAddress, open_registry


def test_a_bundle_becomes_a_version_once(registry_uri: str, name: str, variant, toy_bundle: Path) -> None:
    version, new = register_bundle(toy_bundle, name, dataset="/sets/bolt")
    assert (new, version.version, version.aliases) == (True, 1, ("candidate",))
    again, fresh = register_bundle(toy_bundle, name)
    assert (again.version, fresh) == (1, False)
    other, _ = register_bundle(variant("other", auroc=0.95), name)
    assert (other.version, other.aliases) == (2, ("candidate",))
    with open_registry() as registry:
        newest, first = registry.versions(name)
    assert (newest.aliases, first.aliases) == (("candidate",), ())
    sidecar = read_sidecar(toy_bundle)
    assert first.tags["vqi.bundle"] == sha256_of(toy_bundle / "bundle.json")
    assert first.tags["vqi.dataset_fingerprint"] == sidecar.dataset.fingerprint
    assert (first.tags["vqi.method"], first.tags["vqi.dataset"]) == ("toy", "/sets/bolt")
    assert first.tags["parity.onnx"].startswith("largest deviation 3e-06, tolerance 0.001; 0 decisions differ")
    assert newest.tags["metric.image_auroc"] == "0.95"


def test_mlflow_itself_loads_what_was_registered(registry_uri: str, name: str, toy_bundle: Path) -> None:
    import mlflow

    register_bundle(toy_bundle, name)
    model = mlflow.pyfunc.load_model(f"models:/{name}@candidate")
    files = [png(photograph(33)), png(photograph(34, defect=True))]
    expected = [result.score for result in Predictor(toy_bundle).predict(files)]  # type: ignore[union-attr]
    assert list(model.predict(pandas.DataFrame({"image": files}))["score"]) == expected
    assert [column.name for column in model.metadata.signature.inputs] == ["image"]


def test_an_address_brings_the_bundle_once(registry_uri: str, name: str, toy_bundle: Path, tmp_path: Path) -> None:
    register_bundle(toy_bundle, name)
    with bundle_folder(f"models:/{name}@candidate") as folder:
        assert (folder / "bundle.json").read_bytes() == (toy_bundle / "bundle.json").read_bytes()
        mark = folder / "mark"
        mark.touch()
    with bundle_folder(f"models:/{name}/1") as again:
        assert (again / "mark").exists()
    with bundle_folder(str(toy_bundle)) as plain:
        assert plain == toy_bundle


def test_a_source_follows_its_alias(registry_uri: str, name: str, variant, tmp_path: Path) -> None:
    first, second = variant("first"), variant("second", auroc=0.91)
    register_bundle(first, name)
    source = RegistrySource(ModelAddress.parse(f"models:/{name}@candidate"), "", tmp_path / "served")
    fixed = RegistrySource(ModelAddress.parse(f"models:/{name}/1"), "", tmp_path / "fixed")
    before = source.refresh()
    assert source.refresh() == before
    register_bundle(second, name)
    after = source.refresh()
    assert (after / "bundle.json").read_bytes() == (second / "bundle.json").read_bytes()
    assert before.is_dir()
    assert (fixed.refresh() / "bundle.json").read_bytes() == (first / "bundle.json").read_bytes()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("models:/", "does not name a version of a registered model; write models:/NAME@champion"),
        ("models:/bolt", "does not name a version"),
        ("models:/bolt@", "does not name a version"),
        ("models:/bolt/newest", "does not name a version"),
        ("models:/../bolt/1", "does not name a version"),
        ("models:/no-such-bolt@champion", "'no-such-bolt' is not a registered model; "),
        ("models:/NAME@champion", r"No version of bolt-\w+ has the alias 'champion'; the aliases are: candidate \(ver"),
        ("models:/NAME/9", r"bolt-\w+ has no version 9\."),
    ],
)
def test_an_address_that_means_nothing_is_one_sentence(
    registry_uri: str, name: str, toy_bundle: Path, address: str, sentence: str
) -> None:
    if "NAME" in address:
        register_bundle(toy_bundle, name)
    with pytest.raises(BadInput, match=sentence), bundle_folder(address.replace("NAME", name)):
        pass


def test_what_cannot_be_registered_is_refused(registry_uri: str, toy_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="The name 'a/b' cannot be that of a registered model"):
        register_bundle(toy_bundle, "a/b")
    with pytest.raises(BadInput, match="is not a bundle"):
        register_bundle(tmp_path, "bolt")


def test_without_a_registry_it_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, toy_bundle: Path, tmp_path: Path
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(BadInput, match="none is named; give its address with --tracking, or set MLFLOW_TRACKING_URI"):
        register_bundle(toy_bundle, "bolt")
    with pytest.raises(BadInput, match="must be sqlite:///FILE"):
        register_bundle(toy_bundle, "bolt", "ftp://host")
    with pytest.raises(RunFailed, match=r"Tracking at http://127\.0\.0\.1:9 does not work"):
        register_bundle(toy_bundle, "bolt", "http://127.0.0.1:9")


def test_a_version_that_is_no_bundle_or_another_one_is_refused(
    registry_uri: str, name: str, toy_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "notes.txt").write_text("no bundle")
    with open_registry() as registry:
        registry.create(name, [tmp_path / "else"], {}, "", "vqi")
        registry.create(name, [toy_bundle], {"vqi.bundle": "0" * 64}, "", "vqi")
    cache = tmp_path / "served"
    for number, reason in ((1, "is not a bundle"), (2, "its bundle.json is not the one that was registered")):
        with pytest.raises(BadInput, match=f"The version {name}/{number} does not hold a bundle.*{reason}"):
            RegistrySource(ModelAddress(name, version=number), "", cache).refresh()
    assert list(cache.iterdir()) == []


def test_nothing_appears_where_the_files_cannot_be_stored(
    registry_uri: str, name: str, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    def broken(self: MlflowClient, *arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(MlflowClient, "log_model_artifacts", broken)
    with pytest.raises(RunFailed, match="disk full"):
        register_bundle(toy_bundle, name)
    with open_registry() as registry:
        assert name not in registry.names()
    assert json.loads((toy_bundle / "bundle.json").read_text())["name"] == "plates"
