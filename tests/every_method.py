"""Every method at a size that a test can afford, and a small set to run it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from step_calls import ingest
from vqi.dataset.geometry import Geometry
from vqi.detectors.settings import SETTINGS, BackboneSettings
from vqi.platform.devices import Compute
from vqi.training.settings import TrainSettings

GEOMETRY = Geometry(size=(64, 64))
COMPUTE = Compute(batch_size=4)
BACKBONE = BackboneSettings(weights="random")
# The same code with fewer numbers in it; what is not named here runs with its defaults.
SMALL: dict[str, dict[str, Any]] = {
    "cflow": {"coupling_blocks": 2, "condition": 16},
    "cs_flow": {"coupling_blocks": 1, "hidden_channels": 16},
    "cutpaste": {"head_layers": 1, "freeze_epochs": 1},
    "draem": {"reconstructive_width": 8, "discriminative_width": 8},
    "efficient_ad": {"channels": 16, "distillation_steps": 2},
    "fastflow": {"flow_steps": 2},
    "patchcore": {"coreset_ratio": 0.2},
    "simsiam": {"projection": 32, "bottleneck": 16},
}
TRAINED = [name for name, kind in SETTINGS.items() if kind.budget]


def small(method: str) -> dict[str, Any]:
    """The settings of `method` at test size."""
    return SMALL.get(method, {})


def budget(method: str, steps: int, checkpoints: str = "") -> TrainSettings:
    """So many steps, four images each."""
    return TrainSettings(max_steps=steps, batch_size=4, checkpoints=checkpoints)


def write_parts(folder: Path) -> Path:
    """Twelve good parts (texture with a disc in it), and parts to test of which some have a bright stripe."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:72, :80]
    for part, count in (("train/good", 12), ("test/good", 5), ("test/stripe", 5)):
        (folder / part).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(90, 110, (72, 80, 3)).astype(np.uint8)
            pixels[(rows - 36) ** 2 + (columns - 40 - number % 3) ** 2 < 400] //= 2
            if part == "test/stripe":
                pixels[30 + number : 38 + number, 20:60] = (250, 40, 240)
            Image.fromarray(pixels).save(folder / part / f"{number}.png")
    return folder


def write_dataset(folder: Path) -> Path:
    """`write_parts` through ingest, with labelled images for the supervised: the others do not look at them."""
    source = write_parts(folder / "parts")
    ingest(
        name="parts",
        source=str(source),
        layout="mvtec",
        mask_suffix="_mask",
        calibration_fraction=None,
        labelled_fraction=0.6,
        seed=0,
        dataset=folder / "dataset",
    )
    return folder / "dataset"
