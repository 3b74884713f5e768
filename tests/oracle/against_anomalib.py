"""Our detectors against anomalib's own networks: the same weights, the same images, the same memory bank, Gaussians or components.

    python tests/oracle/against_anomalib.py --anomalib-python SCRATCH/bin/python --data DATA/cookie --weights resnet18.pth [--only patchcore]

Exit code 0 where everything that should agree does, 1 otherwise. Where the two differ on purpose, the difference is printed with its reason and not
judged. Differences are relative: the largest absolute one over the largest absolute value. SCRATCH is an environment with 'anomalib==2.7.*'.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vqi.dataset.geometry import Geometry
from vqi.dataset.reader import Dataset
from vqi.detectors.coreset import greedy_k_center, random_projection
from vqi.detectors.interface import Detector
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.evaluation.aupro import PixelScores
from vqi.steps.ingest.step import ingest
from vqi.steps.scoring import TensorBatches

HERE = Path(__file__).resolve().parent
IMAGES = 12
THREADS = 2
# Both sides compute in float32 in different orders; distances of near neighbours lose digits in anomalib's expanded form.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Comparison:
    """What was compared, how far apart it is, and how far it may be (None: it differs on purpose, `reason` says why)."""

    what: str
    difference: float
    tolerance: float | None = TOLERANCE
    reason: str = ""

    @property
    def agrees(self) -> bool:
        return self.tolerance is None or self.difference <= self.tolerance

    def __str__(self) -> str:
        verdict = "differs on purpose" if self.tolerance is None else "ok" if self.agrees else "DISAGREES"
        bound = "" if self.tolerance is None else f" (<= {self.tolerance:.0e})"
        return f"  {self.what:52} {self.difference:.1e}{bound:12} {verdict}{': ' + self.reason if self.reason else ''}"


def compared(what: str, ours: Tensor, theirs: Tensor, tolerance: float | None = TOLERANCE, reason: str = "") -> Comparison:
    """Relative difference of two tensors of one shape."""
    if ours.shape != theirs.shape:
        raise SystemExit(f"{what}: our shape is {list(ours.shape)}, anomalib's {list(theirs.shape)}.")
    difference = float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())
    return Comparison(what, difference, tolerance, reason)


def patchcore(detector: Detector, dataset: Dataset, normals: TensorBatches) -> tuple[dict[str, Tensor], Callable[..., list[Comparison]]]:
    """What anomalib is given, and what is compared with its answer."""
    detector.build_index(normals)
    embedded = next(iter(detector.embedded(normals)))
    patches = embedded.reshape(-1, embedded.shape[-1])
    points = patches @ random_projection(patches.shape[1], 128, torch.Generator().manual_seed(0))
    chosen = greedy_k_center(points, 200)

    def comparisons(embedding: Tensor, answer: dict[str, Tensor], score: Tensor, values: Tensor) -> list[Comparison]:
        repeated = "it repeats each patch's distance to the input's size; ours is bilinear, as the paper's"
        different = float((chosen != answer["chosen"]).sum())
        return [
            compared("patch features", embedding.permute(0, 3, 1, 2), answer["embedding"]),
            compared("image scores (distance, 9 neighbours, reweighting)", score, answer["score"]),
            compared("anomaly maps, its distances brought up bilinearly", values, answer["bilinear_map"]),
            compared("anomaly maps, as it makes them", values, answer["map"], None, repeated),
            Comparison("coreset: picks of 200 that are not the same", different, 0.5),
        ]

    return {"memory_bank": detector.index["memory_bank"], "points": points, "chosen": chosen}, comparisons


def padim(detector: Detector, dataset: Dataset, normals: TensorBatches) -> tuple[dict[str, Tensor], Callable[..., list[Comparison]]]:
    embedded = torch.cat(list(detector.embedded(normals))).permute(0, 3, 1, 2).contiguous()
    detector.build_index(normals)
    mean, whitening = detector.index["mean"], detector.index["whitening"].double()
    inverse = whitening.mT @ whitening
    given = {"channels": detector.get_buffer("reduction").argmax(dim=0), "normals": embedded, "mean": mean.T, "inverse_covariance": inverse.float()}

    def comparisons(embedding: Tensor, answer: dict[str, Tensor], score: Tensor, values: Tensor) -> list[Comparison]:
        # It adds 1e-5 to the diagonal once more before it inverts.
        covariance = torch.linalg.inv(inverse) + 1e-5 * torch.eye(inverse.shape[1])
        return [
            compared("features of the chosen channels", embedding.permute(0, 3, 1, 2), answer["embedding"]),
            compared("means of the normals, fitted by itself", mean.T, answer["fitted_mean"]),
            compared("covariances of the normals, fitted by itself", covariance, answer["fitted_covariance"], 1e-3),
            compared("anomaly maps", values, answer["map"]),
            compared("image scores", score, answer["score"]),
        ]

    return given, comparisons


def dfm(detector: Detector, dataset: Dataset, normals: TensorBatches) -> tuple[dict[str, Tensor], Callable[..., list[Comparison]]]:
    detector.build_index(normals)
    components = detector.index["components"]
    rows = torch.cat([torch.nn.functional.avg_pool2d(embedding, 2).flatten(1) for embedding in detector.embedded(normals)])
    given = {"mean": detector.index["mean"], "components": components, "normals": rows, "variance": torch.tensor(0.99, dtype=torch.float64)}

    def comparisons(embedding: Tensor, answer: dict[str, Tensor], score: Tensor, values: Tensor) -> list[Comparison]:
        pooled = torch.nn.functional.avg_pool2d(embedding, 2).flatten(1)
        one_fewer = "it takes the index of the component that reaches the share for their number, and so stays below the share"
        # The sign and, among equal variances, the basis are arbitrary: the subspaces are compared, by the angle between them.
        overlap = torch.linalg.svdvals(components.double() @ answer["fitted_components"].double().T).min()
        return [
            compared("pooled features", pooled, answer["embedding"]),
            Comparison("components for 99 % of the variance, ours - its", len(components) - int(answer["kept"]), None, one_fewer),
            Comparison("principal subspace of the normals, fitted by itself", abs(1 - float(overlap))),
            compared("image scores", score, answer["score"]),
            compared("anomaly maps, as it makes them", values, answer["map"]),
        ]

    return given, comparisons


@dataclass(frozen=True)
class Method:
    """One method, the settings under which the two should agree, and its comparisons."""

    layers: tuple[str, ...]
    settings: dict[str, Any]
    compare: Callable[[Detector, Dataset, TensorBatches], tuple[dict[str, Tensor], Callable[..., list[Comparison]]]]


METHODS = {
    # Its map is of the nearest distance alone.
    "patchcore": Method(("layer2", "layer3"), {"coreset_ratio": 0.01, "map_neighbours": 1}, patchcore),
    # It picks channels, as the paper does, and repeats the values of coarser layers.
    "padim": Method(("layer1", "layer2", "layer3"), {"channels": 100, "reduction": "pick", "resize": "nearest"}, padim),
    # Its map is the error of the image's reconstruction, brought up without smoothing.
    "dfm": Method(("layer3",), {"pool": 2, "variance": 0.99, "localisation": "error", "smoothing": 0.0}, dfm),
}


@torch.inference_mode()
def judge(name: str, dataset: Dataset, source: Path, weights: Path, python: Path, folder: Path) -> list[Comparison]:
    """Ask both sides about the same images with the same state, and compare."""
    method, geometry = METHODS[name], Geometry((256, 256))
    backbone = BackboneSettings(weights=str(weights), layers=method.layers)
    detector = create(name, method.settings, backbone, geometry.input_size, seed=0)
    train, test = dataset.samples("train"), dataset.samples("test")
    asked = test[:: max(1, len(test) // IMAGES)][:IMAGES]
    given, comparisons = method.compare(detector, dataset, TensorBatches(dataset, train, geometry, 8))

    images = torch.cat(list(TensorBatches(dataset, asked, geometry, 8)))
    embedding = detector.embed(images)
    score, values = detector.score(embedding, detector.index)

    pixels = PixelScores(values.numel())
    masks = np.zeros(values.shape, dtype=bool)
    for number, sample in enumerate(asked):
        mask = dataset.mask(sample)
        masks[number] = False if mask is None else geometry.apply_mask(mask)
        pixels.add(values[number].numpy(), masks[number], sample.defect)
    measured = pixels.ranking_metrics()

    scaled = (values - values.min()) / (values.max() - values.min())
    given |= {"images": images, "scaled_maps": scaled, "masks": torch.from_numpy(masks)}
    folder.mkdir()
    save_file({key: tensor.contiguous().clone() for key, tensor in given.items()}, folder / "question.safetensors")
    question = {"method": name, "layers": method.layers, "weights": str(weights.resolve()), "threads": THREADS}
    question |= {"paths": [str((source / sample.path).resolve()) for sample in asked[:4]], "pool": 2}
    (folder / "question.json").write_text(json.dumps(question), encoding="utf-8")
    command = [str(python), str(HERE / "anomalib_networks.py"), str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"anomalib_networks.py ended with exit code {done.returncode}:\n{done.stdout[-4000:]}")
    answer = load_file(folder / "answer.safetensors")

    eight_bits = "it resizes in float; ours, as Pillow and every other reader, rounds to 8 bits"
    prepared = Comparison("pre-processed photographs, grey levels of 255", grey_levels(answer), 1.0, eight_bits)
    found = torch.tensor([measured["pixel_auroc"], measured["aupro"]])
    return [prepared, *comparisons(embedding, answer, score, values), compared("pixel AUROC and AUPRO of the same maps", found, answer["metrics"])]


def grey_levels(answer: dict[str, Tensor]) -> float:
    """The largest difference of two pre-processed photographs; the smallest standard deviation of the normalisation undone, in levels of 255."""
    return float((answer["prepared"] - answer["own_prepared"]).abs().max()) * 0.224 * 255


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anomalib-python", type=Path, required=True, help="interpreter of an environment with anomalib 2.7")
    parser.add_argument("--data", type=Path, required=True, help="a folder in MVTec layout")
    parser.add_argument("--weights", type=Path, required=True, help="ResNet-18's state dict with torchvision's keys, at least up to layer3")
    parser.add_argument("--only", choices=sorted(METHODS), help="one method")
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)

    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        ingest(
            name=asked.data.name,
            source=str(asked.data),
            layout="mvtec",
            mask_suffix="_mask",
            calibration_fraction=0.0,
            seed=0,
            dataset=Path(scratch) / "dataset",
        )
        dataset = Dataset(Path(scratch) / "dataset")
        for name in [asked.only] if asked.only else METHODS:
            print(name, flush=True)
            for comparison in judge(name, dataset, asked.data, asked.weights, asked.anomalib_python, Path(scratch) / name):
                print(comparison, flush=True)
                failed += not comparison.agrees
    print(f"{failed} comparison(s) disagree" if failed else "all that should agree agrees")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
