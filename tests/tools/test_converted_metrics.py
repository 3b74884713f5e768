"""A converted set measures as its source, to the last digit: the whole path, by every layout that is written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from photograph_folders import write_files
from step_calls import build_index, evaluate, ingest, train
from vqi.dataset.geometry import Geometry
from vqi.detectors.settings import BackboneSettings
from vqi.platform.devices import Compute
from vqi.tools.conversion.losses import TARGETS
from vqi_pipelines.commands.convert import convert

SIDE = 64


def png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def kolektor(folder: Path) -> Path:
    """A set of KolektorSDD2's shape: grain, and bright scratches of two widths."""
    random, files = np.random.default_rng(0), dict[str, bytes]()
    for number in range(26):
        split, defective = ("train", False) if number < 14 else ("test", number >= 20)
        image, mask = random.integers(90, 130, (SIDE, SIDE), dtype=np.uint8), np.zeros((SIDE, SIDE), np.uint8)
        if defective:
            y, x = random.integers(5, 50, 2)
            mask[y : y + 2 + number % 3, x : x + 12] = 255
            image[mask > 0] = 150
        files |= {f"{split}/{number}.png": png(image), f"{split}/{number}_GT.png": png(mask)}
    return write_files(folder, files)


def measured(source: Path, folder: Path) -> dict[str, Any]:
    """The metrics of a run, and what it says of each type."""
    compute = Compute(device="cpu", batch_size=8)
    ingest(name="part", source=str(source), dataset=folder / "dataset")
    train(
        dataset=folder / "dataset",
        network=folder / "network",
        method="patchcore",
        settings={"coreset_ratio": 0.1},
        backbone=BackboneSettings(name="filterbank"),
        geometry=Geometry(size=(SIDE, SIDE)),
        compute=compute,
        seed=3,
    )
    build_index(dataset=folder / "dataset", network=folder / "network", index=folder / "index", compute=compute)
    results = evaluate(
        false_reject_rate=0.1,
        compute=compute,
        tracking_uri="",
        dataset=folder / "dataset",
        network=folder / "network",
        index=folder / "index",
        evaluation=folder / "evaluation",
        report=folder / "report.html",
    )
    return {"metrics": results.metrics, "types": results.per_defect, "threshold": results.threshold, "roc": results.roc}


@pytest.mark.slow
def test_a_converted_set_measures_as_its_source(tmp_path: Path) -> None:
    source = kolektor(tmp_path / "source")
    expected = measured(source, tmp_path / "run")
    assert 0 < expected["metrics"].aupro < 1
    for target in TARGETS:
        convert(str(source), tmp_path / target, target)
        assert measured(tmp_path / target, tmp_path / f"run-{target}") == expected, target
