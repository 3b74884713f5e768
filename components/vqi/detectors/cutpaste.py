"""CutPaste, and DFM on what it makes of the backbone.

Li et al., "CutPaste: Self-Supervised Learning for Anomaly Detection and Localization", arXiv 2104.04015.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqi.detectors.augmentations import chance, colour_jitter, log_uniform, uniform
from vqi.detectors.backbones import Backbone
from vqi.detectors.fine_tuning import FineTunedDfm
from vqi.detectors.learner import Optimisation, Schedule, Views
from vqi.detectors.settings.cutpaste import CutpasteSettings
from vqi.platform.logs import logger

log = logger(__name__)

# The paper's images have 256 pixels a side; a scar's size is given in these and goes with the image's.
PAPER_SIDE = 256
# Section 2.1: a patch's share of the image's area, and its aspect ratio.
AREA, ASPECT = (0.02, 0.15), (0.3, 3.3)
# Section 2.2: a scar's width and length in pixels, and the largest angle in degrees.
SCAR_WIDTH, SCAR_LENGTH, SCAR_ANGLE = (2.0, 16.0), (10.0, 25.0), 45.0


class Cutpaste(FineTunedDfm):
    """A network that tells images from those with a patch of themselves pasted elsewhere has features that react to
    irregularities."""

    method: ClassVar[str] = "cutpaste"
    training_only: ClassVar[tuple[str, ...]] = ("head.", "fine_tuned")

    settings: CutpasteSettings

    def __init__(
        self, settings: CutpasteSettings, backbone: Backbone, input_size: tuple[int, int], seed: int = 0
    ) -> None:
        super().__init__(settings, backbone, input_size, seed)
        self.classes = ("original", "normal", "scar") if settings.variant == "3way" else ("original", "pasted")
        self.head = self.seeded(lambda: _head(self.width, settings.head_layers, len(self.classes)))

    def optimisation(self, schedule: Schedule) -> Optimisation:
        """Appendix A: SGD with a cosine; `cycles` of them, each beginning at the full rate."""
        settings = self.settings
        groups: list[dict[str, Any]] = [
            {"params": list(self.head.parameters())},
            {"params": list(self.backbone.parameters()), "lr": settings.learning_rate * settings.backbone_rate},
        ]
        optimiser = torch.optim.SGD(
            groups,
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        return Optimisation(
            optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * (step * settings.cycles / schedule.steps % 1)))
        )

    def frozen_epochs(self, schedule: Schedule) -> int:
        """Epochs in which the head alone learns: those asked for, and at most half of the budget's, so that both phases
        happen."""
        return min(self.settings.freeze_epochs, schedule.epochs // 2)

    def begin_epoch(self, epoch: int, schedule: Schedule) -> None:
        """First the head, then the whole network."""
        frozen = self.frozen_epochs(schedule)
        if epoch == 0 and frozen < self.settings.freeze_epochs:
            setting = f"method.settings.freeze_epochs is {self.settings.freeze_epochs}"
            log.warning(f"cutpaste: {setting}; of {schedule.epochs} epochs the head alone learns in {frozen}")
        self.thaw(epoch >= frozen)

    def views(self, images: Tensor, labels: Tensor | None, random: torch.Generator) -> Views:
        """Section 2: `original` and, by the variant, `pasted` or `normal` and `scar`: float32 [n, 3, H, W] each."""
        settings = self.settings
        images = colour_jitter(images, settings.jitter, settings.jitter, random)
        if settings.variant == "3way":
            return {"original": images, "normal": self.normal(images, random), "scar": self.scar(images, random)}
        if settings.variant == "normal":
            return {"original": images, "pasted": self.normal(images, random)}
        if settings.variant == "scar":
            return {"original": images, "pasted": self.scar(images, random)}
        scarred = chance(len(images), 0.5, random).view(-1, 1, 1, 1)
        return {
            "original": images,
            "pasted": torch.where(scarred, self.scar(images, random), self.normal(images, random)),
        }

    def normal(self, images: Tensor, random: torch.Generator) -> Tensor:
        """Section 2.1: a rectangle of .02 to .15 of the image's area and of an aspect ratio of .3 to 3.3, pasted
        upright."""
        n, _, height, width = images.shape
        area = uniform(n, *AREA, random) * height * width
        aspect = log_uniform(n, *ASPECT, random)
        across, down = (area * aspect).sqrt().clamp(1, width).round(), (area / aspect).sqrt().clamp(1, height).round()
        return self._paste(images, across, down, torch.zeros(n), random)

    def scar(self, images: Tensor, random: torch.Generator) -> Tensor:
        """Section 2.2: a thin upright rectangle, pasted at an angle."""
        n, _, height, width = images.shape
        scale = min(height, width) / PAPER_SIDE
        across, down = (scale * uniform(n, *size, random) for size in (SCAR_WIDTH, SCAR_LENGTH))
        angle = math.radians(SCAR_ANGLE) * uniform(n, -1, 1, random)
        return self._paste(images, across, down, angle, random)

    def _paste(self, images: Tensor, across: Tensor, down: Tensor, angle: Tensor, random: torch.Generator) -> Tensor:
        jitter = self.settings.jitter
        patches, mask = cut_and_paste(images, across, down, angle, random)
        patches = colour_jitter(patches, jitter, jitter, random, where=mask)
        return torch.lerp(images, patches, mask)

    def loss(self, views: Views) -> dict[str, Tensor]:
        """Equation 1: the cross-entropy of telling the classes apart; a mean over views and images. Beside it
        `accuracy`."""
        count = len(views["original"])
        logits = self.head(self.pooled(torch.cat([views[name] for name in self.classes]))).float()
        target = torch.arange(len(self.classes), device=logits.device).repeat_interleave(count)
        return {
            "loss": F.cross_entropy(logits, target),
            "accuracy": (logits.detach().argmax(dim=1) == target).float().mean(),
        }


def cut_and_paste(
    images: Tensor, across: Tensor, down: Tensor, angle: Tensor, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A patch of each image moved to another place: the moved patch, float32 [n, 3, H, W], and where it is, its
    opacity, float32 [n, 1, H, W].

    A patch is `across` x `down` pixels [n], lies whole within the image, and is turned by `angle` [n], radians, where
    it is pasted; there too it lies whole within the image where it can. Edges that do not fall on pixels are partly
    opaque. An upright patch of whole pixels is copied exactly.
    """
    n, _, height, width = images.shape
    cosine, sine = angle.cos(), angle.sin()
    from_x, from_y = _corner(across, width, random) + across / 2, _corner(down, height, random) + down / 2
    # The sides of the box around the turned patch.
    box_x, box_y = across * cosine.abs() + down * sine.abs(), across * sine.abs() + down * cosine.abs()
    to_x, to_y = _corner(box_x, width, random) + box_x / 2, _corner(box_y, height, random) + box_y / 2
    # Of every pixel's centre: its place in the patch's own axes, from the patch's middle.
    x = torch.arange(width).add(0.5).view(1, 1, -1) - to_x.view(n, 1, 1)
    y = torch.arange(height).add(0.5).view(1, -1, 1) - to_y.view(n, 1, 1)
    cosine, sine = cosine.view(n, 1, 1), sine.view(n, 1, 1)
    u, v = x * cosine + y * sine, y * cosine - x * sine
    opacity = (across.view(n, 1, 1) / 2 - u.abs() + 0.5).clamp(0, 1) * (down.view(n, 1, 1) / 2 - v.abs() + 0.5).clamp(
        0, 1
    )
    grid = torch.stack(
        [(u + from_x.view(n, 1, 1)) * (2 / width) - 1, (v + from_y.view(n, 1, 1)) * (2 / height) - 1], dim=3
    )
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False), opacity[:, None]


def _corner(length: Tensor, side: int, random: torch.Generator) -> Tensor:
    """Where, on a side of so many pixels, something of `length` [n] begins, on a whole pixel: uniform over the places
    where it fits."""
    room = (side - length).clamp(min=0).floor()
    return (torch.rand(len(length), generator=random) * (room + 1)).floor()


def _head(width: int, layers: int, classes: int) -> nn.Sequential:
    """Appendix A: `layers` of 512 and one of 128, each Linear, batch normalisation, ReLU; then the classes."""
    head = nn.Sequential()
    for size in [512] * layers + [128]:
        head.extend([nn.Linear(width, size), nn.BatchNorm1d(size), nn.ReLU()])
        width = size
    return head.append(nn.Linear(width, classes))
