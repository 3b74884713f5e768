"""stfpm and efficient_ad: the same maps, scores and losses; of efficient_ad also the teacher's statistics and the
quantiles that maps are scaled by.

Networks are made up instead of trained, so that their inputs and every weight matter: stfpm's student is its teacher
and 5 % of noise, near it as a trained one is; efficient_ad's networks have He's gains, with which an image's signal
lives through fourteen layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from comparison import Comparison, Oracle, compared, under
from torch import Tensor, nn

from vqi.dataset.geometry import Geometry
from vqi.detectors.efficient_ad import EfficientAd
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.detectors.stfpm import Stfpm

# Not square: no side stands for the other.
GEOMETRY = Geometry(size=(256, 288))
IMAGES, NORMALS = 6, 8


@dataclass(frozen=True)
class Others:
    """Images of anything else, by number."""

    images: Tensor
    labels: None = None

    def __len__(self) -> int:
        return len(self.images)

    def load(self, numbers: Sequence[int]) -> Tensor:
        return self.images[list(numbers)]


def with_noise(network: nn.Module) -> None:
    """5 % of it on everything; on means, which may be zero, 5 % of a deviation."""
    generator = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean += (
                0.05 * layer.running_var.sqrt() * torch.randn(layer.running_mean.shape, generator=generator)
            )
    for value in network.state_dict().values():
        if value.is_floating_point():
            value *= 1 + 0.05 * torch.randn(value.shape, generator=generator)


def stfpm(oracle: Oracle) -> list[Comparison]:
    """Ask both sides about the same images with the same teacher and student, and compare."""
    detector = create(
        "stfpm", {"image_score": "max"}, BackboneSettings(weights=str(oracle.weights)), GEOMETRY.input_size, seed=0
    )
    assert isinstance(detector, Stfpm)
    teacher, student = detector.backbone.body, detector.student.body
    student.load_state_dict(teacher.state_dict())
    with_noise(student)
    images = oracle.photographs("test", IMAGES, GEOMETRY)
    tensors = (
        under("teacher", teacher)
        | under("student", student)
        | {"images": (images - detector.backbone.mean) / detector.backbone.std}
    )
    answer = oracle.ask("anomalib_students.py", "stfpm", {}, tensors)
    scores, loss = detector(images), detector.loss({"images": images})["loss"]
    summed = (
        "it adds the images of a batch up where ours, as the paper's own code, takes their mean: its learning rate "
        "grows with the batch"
    )
    return [
        compared("anomaly maps", scores.map, answer["map"]),
        compared("image scores, maxima", scores.image, answer["score"]),
        compared("loss, over the number of images", loss, answer["loss"] / len(images)),
        compared("loss, as it makes it", loss, answer["loss"], None, summed),
    ]


def made_up(detector: EfficientAd) -> None:
    """He's gains for weights, and biases."""
    generator = torch.Generator().manual_seed(1)
    for layer in [*detector.teacher.modules(), *detector.student.modules(), *detector.autoencoder.modules()]:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.normal_(layer.bias, std=0.5, generator=generator)


def efficient_ad(size: str, oracle: Oracle) -> list[Comparison]:
    """Ask both sides about the same images with the same three networks, and compare."""
    backbone = BackboneSettings(weights=str(oracle.weights))
    detector = create("efficient_ad", {"image_score": "max", "model_size": size}, backbone, GEOMETRY.input_size, seed=0)
    assert isinstance(detector, EfficientAd)
    made_up(detector)
    normals, images = oracle.photographs("train", NORMALS, GEOMETRY), oracle.photographs("test", IMAGES, GEOMETRY)
    detector.prepare(normals.split(4))
    detector.finish(normals.split(4))
    detector.extra = Others(images)
    # Its quantile is one of the whole batch: with one image, as it asks for, the two are the same.
    views = detector.views(images[:1], None, torch.Generator().manual_seed(0))
    tensors = {
        name: value
        for name, value in detector.state_dict().items()
        if name.startswith(("teacher", "student", "autoencoder", "quantiles"))
    }
    tensors |= {"images": images, "normals": normals} | {f"view.{name}": value for name, value in views.items()}
    answer = oracle.ask("anomalib_students.py", f"efficient_ad {size}", {}, tensors)
    maps = detector.maps(images)
    scores, losses = detector(images), detector.loss(views)
    return [
        compared("the teacher's means over the normals", detector.teacher_mean, answer["teacher_mean"]),
        compared("the teacher's deviations", detector.teacher_std, answer["teacher_std"]),
        compared("quantiles of the normals' maps", detector.quantiles, answer["quantiles"]),
        compared("maps of student and teacher, not yet scaled", maps[0], answer["map_of_teacher"]),
        compared("maps of student and autoencoder, not yet scaled", maps[1], answer["map_of_autoencoder"]),
        compared("anomaly maps", scores.map, answer["map"]),
        compared("image scores, maxima", scores.image, answer["score"]),
        compared(
            "loss of student and teacher, with the penalty",
            losses["student_teacher"] + losses["penalty"],
            answer["student_teacher"],
        ),
        compared("loss of the autoencoder", losses["autoencoder"], answer["autoencoder"]),
        compared("loss of student and autoencoder", losses["student_autoencoder"], answer["student_autoencoder"]),
    ]
