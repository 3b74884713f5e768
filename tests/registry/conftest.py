"""A registry in a real sqlite store, bundles that differ, and photographs to compare them on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image

from toy_bundle import photograph
from vqi.tracking.runs import check_tracking

Variant = Callable[..., Path]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with its tables; made once, since a new one takes MLflow seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('registry') / 'mlflow.db'}"
    check_tracking(uri, "vqi")
    return uri


@pytest.fixture
def registry_uri(store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Its address, which commands read from the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("VQI_CACHE", str(tmp_path / "cache"))
    return store


@pytest.fixture
def name() -> str:
    """A model's name that no other test has."""
    return f"bolt-{uuid4().hex[:8]}"


@pytest.fixture
def variant(toy_bundle: Path, tmp_path: Path) -> Variant:
    """Makes bundles that differ from the toy's by a factor on their image threshold and by their metrics."""

    def make(label: str, factor: float = 1.0, auroc: float = 0.9) -> Path:
        folder = Path(shutil.copytree(toy_bundle, tmp_path / f"bundle-{label}"))
        sidecar = json.loads((folder / "bundle.json").read_text())
        sidecar["thresholds"]["image"] *= factor
        sidecar["metrics"] = {"image_auroc": auroc, "label": label}
        (folder / "bundle.json").write_text(json.dumps(sidecar))
        return folder

    return make


@pytest.fixture(scope="session")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of plates with a test folder, in MVTec's layout: six good and six defective, two to train on."""
    folder = tmp_path_factory.mktemp("plates")
    for kind, numbers in (("train/good", (0, 1)), ("test/good", range(20, 26)), ("test/spot", range(30, 36))):
        (folder / kind).mkdir(parents=True)
        for number in numbers:
            Image.fromarray(photograph(number, kind == "test/spot")).save(folder / kind / f"{number}.png")
    return folder
