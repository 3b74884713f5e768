"""STFPM: Wang et al., "Student-Teacher Feature Pyramid Matching for Anomaly Detection", arXiv 2103.04257."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqi.detectors.backbones import Backbone, empty_backbone
from vqi.detectors.interface import Scores
from vqi.detectors.learner import Optimisation, Schedule, TrainedDetector, Views
from vqi.detectors.maps import MapUpsampling, image_score
from vqi.detectors.settings.stfpm import StfpmSettings
from vqi.platform.errors import BadInput


class Stfpm(TrainedDetector):
    """A student of the teacher's architecture learns its features of normals; a position is as anomalous as the two
    differ there at every scale."""

    method: ClassVar[str] = "stfpm"
    default_layers: ClassVar[Mapping[str, tuple[str, ...]]] = {"resnet": ("layer1", "layer2", "layer3")}

    settings: StfpmSettings
    backbone: Backbone

    def __init__(self, settings: StfpmSettings, backbone: Backbone, input_size: tuple[int, int], seed: int = 0) -> None:
        """Raises BadInput where the backbone has no weights that a student could learn."""
        super().__init__(settings, backbone, input_size, seed)
        # Not the teacher's seed: a random teacher's student would begin as its copy.
        self.student = empty_backbone(backbone.settings, self.default_layers, seed + 1).requires_grad_()
        if next(self.student.parameters(), None) is None:
            raise BadInput(
                f"stfpm trains a student of the backbone's architecture, and {backbone.settings.name} has nothing to "
                "train; use a network."
            )
        grids = backbone.grids(input_size).values()
        self.upsample = nn.ModuleList(MapUpsampling(grid, input_size, 0.0) for grid in grids)

    def optimisation(self, schedule: Schedule) -> Optimisation:
        """Section 4: SGD at a constant rate."""
        chosen = self.settings
        return Optimisation(
            torch.optim.SGD(
                self.student.parameters(),
                chosen.learning_rate,
                momentum=chosen.momentum,
                weight_decay=chosen.weight_decay,
                fused=True,
            )
        )

    def views(self, images: Tensor, labels: Tensor | None, random: torch.Generator) -> Views:
        """The images as they are: the paper augments nothing."""
        return {"images": images}

    def loss(self, views: Views) -> dict[str, Tensor]:
        """Eq. 1 to 3: the mean over positions of the differences, summed over the scales; the mean over images."""
        layers = [difference.mean() for difference in self.differences(views["images"])]
        return {"loss": functools.reduce(torch.add, layers)} | dict(
            zip(self.backbone.settings.layers, layers, strict=True)
        )

    def differences(self, images: Tensor) -> list[Tensor]:
        """Eq. 1: half the squared distance of the two unit vectors at every position of every scale, float32 [N, h_l,
        w_l] each."""
        self.student.precision = self.backbone.precision
        with torch.no_grad():
            teacher = self.backbone(images)
        student = self.student(images)
        return [
            0.5 * (F.normalize(teacher[layer]) - F.normalize(student[layer])).square().sum(dim=1) for layer in teacher
        ]

    def score(self, embedding: Tensor, index: Mapping[str, Tensor]) -> Scores:
        """Section 3.3: the product of all scales' differences, each brought to the input's size: float32 [N, 3, H, W]
        -> Scores."""
        maps = [upsample(values) for upsample, values in zip(self.upsample, self.differences(embedding), strict=True)]
        anomaly_map = functools.reduce(torch.mul, maps)
        return Scores(image_score(anomaly_map, self.settings.image_score), anomaly_map)
