"""How many unseen good parts PatchCore rejects by each kind of calibration, at 1, 2, 5, 10 and 20 %:

    python tests/benchmarks/promises_of_splits.py --weights resnet18.pth --normals 31 [--ratio 0.01] [--splits 12] FOLDER|COUNT

FOLDER holds good photographs, in any depth below; a number renders so many flanges. Each split draws `--normals` of
them at random, fits a bank and takes thresholds from pools and from refits; all others, at most 120, are scored by that
bank. Printed are means over the splits, of the image score and of the map's maximum; `bias` is the mean score of the
normals less that of the others; processor seconds are of fit and calibration without the features. One thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vqi.dataset.generator.part import photograph, position_part
from vqi.detectors.calibration import NormalScore, cross_scores, scored
from vqi.detectors.embeddings import Embeddings
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.evaluation.thresholds import conformal_threshold

SIDE, BATCH, MOST = 256, 8, 120
RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
KINDS = ("pools", "refits")


class KeptEmbeddings:
    """Embeddings that are in memory: what `cross_scores` takes of Embeddings."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.count = values, len(values)

    def of(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        for start in range(0, len(numbers), BATCH):
            yield self.values[list(numbers[start : start + BATCH])]


def photographs(source: str) -> Iterator[np.ndarray]:
    """uint8 [SIDE, SIDE, 3]: the files below a folder, by name, or rendered flanges."""
    if source.isdecimal():
        for number in range(int(source)):
            pose, scene = (np.random.default_rng([7, number, purpose]) for purpose in range(2))
            yield photograph(position_part((SIDE, SIDE), pose), scene)
        return
    for path in sorted(path for path in Path(source).rglob("*") if path.is_file()):
        with Image.open(path) as image:
            yield np.array(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


@torch.inference_mode()
def embed(detector: Any, source: str) -> Tensor:
    """The embeddings of all photographs, [N, h, w, C]."""
    images = [torch.from_numpy(image).permute(2, 0, 1) for image in photographs(source)]
    batches = (torch.stack(images[start : start + BATCH]).float() / 255 for start in range(0, len(images), BATCH))
    return torch.cat([detector.embed(batch) for batch in batches])


def rejected(calibration: Sequence[float], fresh: Sequence[float]) -> list[float]:
    """The share of `fresh` above the threshold of each rate, and the bias."""
    shares = [float(np.mean(np.array(fresh) > conformal_threshold(calibration, rate)[0])) for rate in RATES]
    return [*shares, float(np.mean(calibration) - np.mean(fresh))]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a folder of good photographs, or how many flanges to render")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--normals", type=int, required=True)
    parser.add_argument("--ratio", type=float, default=0.01)
    parser.add_argument("--splits", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    backbone = BackboneSettings(name="resnet18", weights=arguments.weights, layers=("layer2", "layer3"))
    detectors = {
        kind: create("patchcore", {"coreset_ratio": arguments.ratio, "calibration": kind}, backbone, (SIDE, SIDE))
        for kind in KINDS
    }
    values = embed(detectors["pools"], arguments.source)
    rows: dict[str, list[list[float]]] = {kind: [] for kind in ("fit", *KINDS)}
    for split in range(arguments.splits):
        order = torch.randperm(len(values), generator=torch.Generator().manual_seed(1000 + split))
        normals, others = (
            KeptEmbeddings(values[order[part]])
            for part in (slice(arguments.normals), slice(arguments.normals, arguments.normals + MOST))
        )
        begun = time.process_time()
        index = detectors["pools"].fit(normals.of(range(normals.count)), normals.count)
        rows["fit"].append([time.process_time() - begun])
        fresh = list(scored(detectors["pools"], others.of(range(others.count)), index))
        for kind, detector in detectors.items():
            detector.index, detector.seed = index, split
            begun = time.process_time()
            scores: list[NormalScore]
            groups = [str(number) for number in range(normals.count)]
            _, scores = cross_scores(detector, cast(Embeddings, normals), groups)
            seconds = time.process_time() - begun
            image = rejected([score.score for score in scores], [score.score for score in fresh])
            pixel = rejected([score.map_max for score in scores], [score.map_max for score in fresh])
            rows[kind].append([seconds, *image, *pixel])
    print(f"{arguments.normals} normals, {arguments.ratio:.3g}, {arguments.splits} splits of {len(values)}")
    print(f"fit {np.mean(rows['fit']):.2f} s")
    for kind in KINDS:
        seconds, *means = np.mean(rows[kind], axis=0)
        halves = (means[: len(means) // 2], means[len(means) // 2 :])
        shown = " | ".join(
            " ".join(f"{100 * share:5.2f}" for share in half[:-1]) + f"  bias {half[-1]:+.4f}" for half in halves
        )
        print(f"{kind:6s} {seconds:6.2f} s  {shown}", flush=True)


if __name__ == "__main__":
    main()
