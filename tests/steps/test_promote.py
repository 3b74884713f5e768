"""The step promote: the bundle of a run against the champion, on the run's own Dataset."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from step_calls import ingest
from toy_bundle import photograph
from vqi.category import Category
from vqi.platform.errors import BadInput, GateRefused
from vqi.registry.settings import PromoteSettings
from vqi.steps.configure.step import configure
from vqi.steps.promote.settings import StepSettings
from vqi.steps.promote.step import promote
from vqi.tracking.registry import ModelAddress, open_registry
from vqi.tracking.settings import ExperimentSettings


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("plates")
    for kind, numbers in (("train/good", range(3)), ("test/good", range(20, 23)), ("test/spot", range(30, 33))):
        (source / kind).mkdir(parents=True)
        for number in numbers:
            Image.fromarray(photograph(number, kind == "test/spot")).save(source / kind / f"{number}.png")
    folder = tmp_path_factory.mktemp("dataset") / "dataset"
    ingest(name="plates", source=str(source), layout="mvtec", calibration_fraction=0.0, seed=0, dataset=folder)
    return folder


def test_a_run_ends_with_a_champion_or_with_the_reason(
    dataset: Path, toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VQI_CACHE", str(tmp_path / "cache"))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings = StepSettings(
        name="plates",
        promote=PromoteSettings(max_latency_ratio=1000),
        tracking=ExperimentSettings(uri=uri),
    )
    address = "s3://runs/dataset"
    first = promote(settings, dataset=dataset, bundle=toy_bundle, dataset_address=address)
    assert (first.decision, first.candidate, first.data) == ("accepted", 1, address)
    assert "Version 1 of plates is the champion now." in capsys.readouterr().err
    # The pod is started again: nothing is registered or measured twice.
    assert promote(settings, dataset=dataset, bundle=toy_bundle).decision == "unchanged"

    blind = Path(shutil.copytree(toy_bundle, tmp_path / "blind"))
    sidecar = json.loads((blind / "bundle.json").read_text())
    sidecar["thresholds"]["image"] = 1e6
    (blind / "bundle.json").write_text(json.dumps(sidecar))
    with pytest.raises(GateRefused, match=r"plates/2 is refused, and version 1 stays the champion: recall is 0\.0000"):
        promote(settings, dataset=dataset, bundle=blind)
    with open_registry(uri) as registry:
        assert registry.resolve(ModelAddress("plates", "champion")).version == 1
        assert registry.resolve(ModelAddress("plates", "candidate")).tags["promotion.decision"] == "refused"


@pytest.mark.parametrize("values", [{"tracking": {"register": "yes"}}, {"promote": {"step": "yes"}}])
def test_without_a_registry_the_first_step_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, dict[str, str]]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "0.png").write_bytes(b"0")
    category = Category.parse({"data": {"source": str(tmp_path)}, "backbone": {"name": "filterbank"}, **values})
    with pytest.raises(BadInput, match="need an MLflow, whose registry keeps the bundle"):
        configure(category.parameters(), {})
