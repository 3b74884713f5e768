"""What tests share: the real photographs and weights beside the project, where they are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")
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
