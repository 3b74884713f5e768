"""How many fresh good parts a run rejects, beside what it promises: `python tests/benchmarks/promises.py`, some minutes
on one core. `promises_of_splits.py` asks the same of PatchCore's two kinds of calibration, on photographs.

Rendered flanges in a loose fixture, every one photographed twice: at a light that differs by 5 %, moved by up to 1 %,
saved as JPEG the second time. Each row is the mean of a few sets. `near` leaves it to ingest to see the copies, `named`
names the parts by `data.group`, `apart` names every photograph by itself, as though no part had been photographed
twice.

Measured with 5 sets of 15 parts, dfm on the filter bank (promised / rejected): refits .062 / .010 near and named, .032
/ .130 apart; split .200 / .093 near, .200 / .067 named, .100 / .243 apart.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from vqi.batches.scoring import score_samples
from vqi.category import Category
from vqi.dataset.generator.part import photograph, position_part
from vqi.dataset.reader import Dataset
from vqi.detectors.compute import to_device
from vqi.detectors.storage import load_detector
from vqi.evaluation.calibration import read_calibration
from vqi.evaluation.thresholds import calibrate
from vqi.steps.build_index import settings as build_settings
from vqi.steps.build_index.step import build_index
from vqi.steps.ingest import settings as ingest_settings
from vqi.steps.ingest.step import ingest
from vqi.steps.train import settings as train_settings
from vqi.steps.train.step import train

SIDE, PARTS, FRESH = 128, 15, 60
GROUPS = {"near": "", "named": r"(\d+)[ab]\.", "apart": "(.*)"}


def write_parts(folder: Path, seed: int) -> None:
    """Parts in train/good, twice each, and fresh ones in test/good, once each."""
    for split, stream, count in (("train", 0, PARTS), ("test", 1, FRESH)):
        (folder / split / "good").mkdir(parents=True)
        for number in range(count):
            pose, scene, light = (np.random.default_rng([seed, stream, number, purpose]) for purpose in range(3))
            image = photograph(position_part((SIDE, SIDE), pose), scene)
            Image.fromarray(image).save(folder / split / "good" / f"{number:03}a.png")
            if split == "train":
                right, down = light.integers(-1, 2, 2)
                again = np.roll(image * light.uniform(0.95, 1.05), (down, right), (0, 1))
                Image.fromarray(np.clip(again, 0, 255).astype(np.uint8)).save(
                    folder / split / "good" / f"{number:03}b.jpg", quality=90
                )


def rejected(folder: Path, group: str, fraction: float) -> tuple[float, float, int]:
    """The rate promised, the share of fresh parts rejected, and what n was."""
    work = folder / "run"
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        data = {"source": str(folder / "source"), "layout": "mvtec", "calibration_fraction": fraction, "group": group}
        category = Category.parse(
            {
                "name": "flanges",
                "data": data,
                "image": {"size": SIDE},
                "backbone": {"name": "filterbank"},
                "method": {"name": "dfm"},
            }
        )
        compute, geometry = category.device_compute, category.geometry
        ingest(ingest_settings.StepSettings.of(category), dataset=work / "dataset")
        learnt = {"dataset": work / "dataset", "network": work / "network"}
        train(train_settings.StepSettings.of(category), **learnt)
        build_index(build_settings.StepSettings.of(category), **learnt, index=work / "index")
        threshold = calibrate(read_calibration(work / "index"), 0.01)
        detector, data = to_device(load_detector(work / "network", work / "index"), compute), Dataset(work / "dataset")
        scores = [score for _, score, _ in score_samples(detector, data, data.samples("test"), geometry, compute)]
    return threshold.false_reject_rate, float(np.mean(np.array(scores) > threshold.image)), threshold.calibration_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=10, help="sets that each row is the mean of")
    sets = parser.parse_args().sets
    print("kind   grouping  n   promised  rejected")
    for kind, fraction in (("cross", 0.0), ("split", 0.3)):
        for grouping, group in GROUPS.items():
            rows = []
            for seed in range(sets):
                with tempfile.TemporaryDirectory() as folder:
                    write_parts(Path(folder) / "source", seed)
                    rows.append(rejected(Path(folder), group, fraction))
            promised, share, n = np.mean(rows, axis=0)
            print(f"{kind}  {grouping:8s} {n:4.1f}  {promised:.3f}     {share:.3f}", flush=True)


if __name__ == "__main__":
    main()
