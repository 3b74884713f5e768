"""patchcore, padim and dfm: features, what is fitted from the same normals, scores and maps from the same index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from comparison import Comparison, Oracle, compared
from torch import Tensor

from vqi.batches.tensors import TensorBatches
from vqi.dataset.geometry import Geometry
from vqi.dataset.reader import Dataset
from vqi.detectors.coreset import greedy_k_center, random_projection
from vqi.detectors.interface import Detector
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.evaluation.aupro import PixelScores

IMAGES = 12


def patchcore(
    detector: Detector, dataset: Dataset, normals: TensorBatches
) -> tuple[dict[str, Tensor], Callable[..., list[Comparison]]]:
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


def padim(
    detector: Detector, dataset: Dataset, normals: TensorBatches
) -> tuple[dict[str, Tensor], Callable[..., list[Comparison]]]:
    embedded = torch.cat(list(detector.embedded(normals))).permute(0, 3, 1, 2).contiguous()
    detector.build_index(normals)
    mean, whitening = detector.index["mean"], detector.index["whitening"].double()
    inverse = whitening.mT @ whitening
    tensors = {
        "channels": detector.get_buffer("reduction").argmax(dim=0),
        "normals": embedded,
        "mean": mean.T,
        "inverse_covariance": inverse.float(),
    }

    def comparisons(embedding: Tensor, answer: dict[str, Tensor], score: Tensor, values: Tensor) -> list[Comparison]:
        # It adds 1e-5 to the diagonal once more before it inverts.
        covariance = torch.linalg.inv(inverse) + 1e-5 * torch.eye(inverse.shape[1])
        return [
            compared("features of the chosen channels", embedding.permute(0, 3, 1, 2), answer["embedding"]),
            compared("means of the normals, fitted by itself", mean.T, answer["fitted_mean"]),
            compared("covariances of the normals, fitted by itself", covariance, answer["fitted_covariance"]),
            compared("anomaly maps", values, answer["map"]),
            compared("image scores", score, answer["score"]),
        ]

    return tensors, comparisons


def dfm(
    detector: Detector, dataset: Dataset, normals: TensorBatches
) -> tuple[dict[str, Tensor], Callable[..., list[Comparison]]]:
    detector.build_index(normals)
    components = detector.index["components"]
    rows = torch.cat(
        [torch.nn.functional.avg_pool2d(embedding, 2).flatten(1) for embedding in detector.embedded(normals)]
    )
    tensors = {
        "mean": detector.index["mean"],
        "components": components,
        "normals": rows,
        "variance": torch.tensor(0.99, dtype=torch.float64),
    }

    def comparisons(embedding: Tensor, answer: dict[str, Tensor], score: Tensor, values: Tensor) -> list[Comparison]:
        pooled = torch.nn.functional.avg_pool2d(embedding, 2).flatten(1)
        one_fewer = (
            "it takes the index of the component that reaches the share for their number, and so stays below the share"
        )
        # The sign and, among equal variances, the basis are arbitrary: the subspaces are compared, by the angle between
        # them.
        overlap = torch.linalg.svdvals(components.double() @ answer["fitted_components"].double().T).min()
        return [
            compared("pooled features", pooled, answer["embedding"]),
            Comparison(
                "components for 99 % of the variance, less one",
                abs(len(components) - 1 - int(answer["kept"])),
                0.5,
                one_fewer,
            ),
            Comparison("principal subspace of the normals, fitted by itself", abs(1 - float(overlap))),
            compared("image scores", score, answer["score"]),
            compared("anomaly maps, as it makes them", values, answer["map"]),
        ]

    return tensors, comparisons


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


def indexed(name: str, oracle: Oracle) -> list[Comparison]:
    """Ask both sides about the same images with the same state, and compare."""
    method, geometry, dataset = METHODS[name], Geometry(size=(256, 256)), oracle.dataset
    backbone = BackboneSettings(weights=str(oracle.weights), layers=method.layers)
    detector = create(name, method.settings, backbone, geometry.input_size, seed=0)
    train, test = dataset.samples("train"), dataset.samples("test")
    inspected = test[:: max(1, len(test) // IMAGES)][:IMAGES]
    tensors, comparisons = method.compare(detector, dataset, TensorBatches(dataset, train, geometry, 8))

    images = torch.cat(list(TensorBatches(dataset, inspected, geometry, 8)))
    embedding = detector.embed(images)
    score, values = detector.score(embedding, detector.index)

    pixels = PixelScores(values.numel())
    masks = np.zeros(values.shape, dtype=bool)
    for number, sample in enumerate(inspected):
        mask = dataset.mask(sample)
        masks[number] = False if mask is None else geometry.apply_mask(mask)
        pixels.add(values[number].numpy(), masks[number], sample.defect)
    metrics = pixels.ranking_metrics()

    scaled = (values - values.min()) / (values.max() - values.min())
    tensors |= {"images": images, "scaled_maps": scaled, "masks": torch.from_numpy(masks)}
    question = {"layers": method.layers, "weights": str(oracle.weights.resolve()), "pool": 2}
    question |= {"paths": [str((oracle.source / sample.path).resolve()) for sample in inspected[:4]]}
    answer = oracle.ask("anomalib_indexed.py", name, question, tensors)

    eight_bits = "it resizes in float; ours, as Pillow and every other reader, rounds to 8 bits"
    prepared = Comparison("pre-processed photographs, grey levels of 255", grey_levels(answer), 1.0, eight_bits)
    ours = torch.tensor([metrics["pixel_auroc"], metrics["aupro"]])
    return [
        prepared,
        *comparisons(embedding, answer, score, values),
        compared("pixel AUROC and AUPRO of the same maps", ours, answer["metrics"]),
    ]


def grey_levels(answer: dict[str, Tensor]) -> float:
    """The largest difference of two pre-processed photographs; the smallest standard deviation of the normalisation
    undone, in levels of 255."""
    return float((answer["prepared"] - answer["own_prepared"]).abs().max()) * 0.224 * 255
