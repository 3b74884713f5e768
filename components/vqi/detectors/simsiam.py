"""SimSiam, and DFM on what it makes of the backbone.

Chen and He, "Exploring Simple Siamese Representation Learning", arXiv 2011.10566.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqi.detectors.augmentations import colour_jitter, gaussian_blur, random_resized_crop
from vqi.detectors.backbones import Backbone
from vqi.detectors.fine_tuning import FineTunedDfm
from vqi.detectors.learner import Optimisation, Schedule, Views
from vqi.detectors.settings.simsiam import SimsiamSettings
from vqi.platform.errors import BadInput


class Simsiam(FineTunedDfm):
    """Two views of an image should predict each other's embedding; gradients go through one side only, which is what
    keeps them from collapsing."""

    method: ClassVar[str] = "simsiam"
    training_only: ClassVar[tuple[str, ...]] = ("projector.", "predictor.", "fine_tuned")

    settings: SimsiamSettings

    def __init__(
        self, settings: SimsiamSettings, backbone: Backbone, input_size: tuple[int, int], seed: int = 0
    ) -> None:
        super().__init__(settings, backbone, input_size, seed)
        self.projector = self.seeded(lambda: _projector(self.width, settings.projection))
        self.predictor = self.seeded(lambda: _predictor(settings.projection, settings.bottleneck))

    def optimisation(self, schedule: Schedule) -> Optimisation:
        """Section 3: SGD, its rate in proportion to the batch and decaying by a cosine; the predictor's stays (section
        4.2)."""
        if schedule.batch_size < 2:
            raise BadInput("train.batch_size is 1, and simsiam normalises over the batch; use 2 or more.")
        settings = self.settings
        rate = settings.learning_rate * schedule.batch_size / 256
        groups: list[dict[str, Any]] = [
            {"params": list(self.projector.parameters())},
            {"params": list(self.backbone.parameters()), "lr": rate * settings.backbone_rate},
            {"params": list(self.predictor.parameters()), "fixed": True},
        ]
        optimiser = torch.optim.SGD(
            groups, lr=rate, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=True
        )
        return Optimisation(optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * step / schedule.steps)))

    def views(self, images: Tensor, labels: Tensor | None, random: torch.Generator) -> Views:
        """Section 3: `first` and `second`, two augmentations of each image, float32 [n, 3, H, W]."""
        return {"first": self._augment(images, random), "second": self._augment(images, random)}

    def _augment(self, images: Tensor, random: torch.Generator) -> Tensor:
        settings = self.settings
        images = random_resized_crop(images, (settings.smallest_crop, 1.0), 0.5, random)
        images = colour_jitter(images, settings.jitter, settings.hue, random, probability=0.8, grey=0.2)
        return gaussian_blur(images, (0.1, 2.0), 0.5, random)

    def loss(self, views: Views) -> dict[str, Tensor]:
        """Equation 4: 1/2 D(p1, stopgrad z2) + 1/2 D(p2, stopgrad z1).

        Beside it `spread`, the deviation of the unit embeddings' coordinates times the root of their number (figure 2):
        about 1 where embeddings lie evenly on the sphere, 0 where all have collapsed into one.
        """
        z1, z2 = (self.projector(self.pooled(views[name])) for name in ("first", "second"))
        p1, p2 = self.predictor(z1), self.predictor(z2)
        loss = 0.5 * distance(p1, z2.detach()) + 0.5 * distance(p2, z1.detach())
        spread = F.normalize(z1.detach().float(), dim=1).std(dim=0, correction=0).mean() * math.sqrt(z1.shape[1])
        return {"loss": loss, "spread": spread}


def distance(p: Tensor, z: Tensor) -> Tensor:
    """Equation 1, a mean over the images: the negative cosine of `p` and `z`, both [n, d]; a scalar, -1 where they
    agree."""
    return -F.cosine_similarity(p.float(), z.float(), dim=1).mean()


def _projector(width: int, projection: int) -> nn.Sequential:
    """Section 3: three layers, all batch-normalised, the last without ReLU (and, as its authors have it, without scale
    and shift)."""
    return nn.Sequential(
        nn.Linear(width, projection, bias=False),
        nn.BatchNorm1d(projection),
        nn.ReLU(),
        nn.Linear(projection, projection, bias=False),
        nn.BatchNorm1d(projection),
        nn.ReLU(),
        nn.Linear(projection, projection, bias=False),
        nn.BatchNorm1d(projection, affine=False),
    )


def _predictor(projection: int, bottleneck: int) -> nn.Sequential:
    """Section 3: two layers, narrow between them."""
    return nn.Sequential(
        nn.Linear(projection, bottleneck, bias=False),
        nn.BatchNorm1d(bottleneck),
        nn.ReLU(),
        nn.Linear(bottleneck, projection),
    )
