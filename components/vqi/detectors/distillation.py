"""A teacher for EfficientAD out of any backbone: Batzner et al., arXiv 2303.14535, section 3.1 and the distillation
algorithm of appendix A.

The paper distils WideResNet-101 on ImageNet. Here the images are whatever there is, down to the normals of one
category: the views show them turned, scaled and recoloured as well, so that the teacher follows the backbone on more
than the normals themselves.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from vqi.detectors.backbones import Backbone
from vqi.detectors.features import CommonGrid
from vqi.detectors.grids import Cells, Grid
from vqi.detectors.interface import ImageBatches
from vqi.detectors.learner import Learner, Optimisation, Schedule, TrainingImages, Views
from vqi.detectors.patch_description import MARGIN, STRIDE, PatchDescription, grid_size

# The backbone sees the images twice as large (512 for 256 in the paper): its layer of stride 8 then has a position for
# each of the teacher's.
ENLARGEMENT = 2
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-5


class Distillation(Learner):
    """A patch description network learns a backbone's features of the same patches.

    `extra`: images of anything, half of every batch where they are given.
    """

    unchanged: ClassVar[tuple[str, ...]] = ("backbone.",)

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        teacher: PatchDescription,
        backbone: Backbone,
        input_size: tuple[int, int],
        extra: TrainingImages | None = None,
    ) -> None:
        super().__init__()
        self.teacher, self.backbone, self.extra = teacher, backbone, extra
        self.grid = grid_size(input_size)
        self.size = (input_size[0] * ENLARGEMENT, input_size[1] * ENLARGEMENT)
        whole = Grid(*(Cells(count + 2 * MARGIN, STRIDE * ENLARGEMENT) for count in self.grid))
        self.common = CommonGrid(backbone.grids(self.size), whole)
        self.register_buffer("mean", torch.zeros(1, teacher.channels, 1, 1))
        self.register_buffer("std", torch.ones(1, teacher.channels, 1, 1))
        # Its networks may lie on an accelerator already.
        self.to(backbone.mean.device)

    def train(self, mode: bool = True) -> Self:
        """Training mode for the teacher; the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def prepare(self, normals: ImageBatches) -> None:
        """Mean and standard deviation of every target channel over the images and a variation of each, so that every
        channel counts alike."""
        random, device = torch.Generator().manual_seed(0), self.mean.device
        mean, std = channel_statistics(
            self.features(images.to(device)) for batch in normals for images in (batch, variations(batch, random))
        )
        self.mean.copy_(mean)
        self.std.copy_(std)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """What the backbone has to say of every patch of the teacher's grid: float32 [N, 3, H, W] -> [N, C, h, w].

        As PatchCore prepares features (3 x 3 averages, channels averaged in groups down to `channels`), over the
        teacher's positions.
        """
        layers = self.backbone(F.interpolate(images, size=self.size, mode="bilinear", align_corners=False)).values()
        # Not the zeros beyond the border: the average is that of what lies inside.
        averaged = (F.avg_pool2d(layer, 3, stride=1, padding=1, count_include_pad=False) for layer in layers)
        described = self.common.concatenated(averaged)[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
        positions = described.flatten(2).transpose(1, 2)
        return F.adaptive_avg_pool1d(positions, self.teacher.channels).transpose(1, 2).unflatten(2, self.grid)

    def optimisation(self, schedule: Schedule) -> Optimisation:
        """Adam at ten times the paper's rate, brought down to nothing along a cosine: the budget is a sixth of the
        paper's or less."""
        self.teacher.requires_grad_()
        optimiser = torch.optim.Adam(self.teacher.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
        return Optimisation(optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * step / schedule.steps)))

    def views(self, images: Tensor, labels: Tensor | None, random: torch.Generator) -> Views:
        """`images` as they are or varied, each with a chance of a half; `others` from the extra images."""
        varied = torch.rand(len(images), 1, 1, 1, generator=random) < 0.5
        views = {"images": torch.where(varied, variations(images, random), images)}
        if self.extra is not None:
            numbers = torch.randint(len(self.extra), (len(images),), generator=random).tolist()
            views["others"] = self.extra.load(numbers)
        return views

    def loss(self, views: Views) -> dict[str, Tensor]:
        """The mean squared difference of the teacher's output and the normalised features."""
        images = torch.cat(list(views.values()))
        wanted = (self.features(images) - self.mean) / self.std
        return {"loss": (self.teacher(images) - wanted).square().mean()}

    def finish(self, normals: ImageBatches) -> None:
        """The teacher is learnt, and learns no more."""
        self.teacher.requires_grad_(False)
        for parameter in self.teacher.parameters():
            parameter.grad = None


def variations(images: Tensor, random: torch.Generator) -> Tensor:
    """Images turned by any angle, mirrored, scaled by 1/2 to 2, shifted, their colours mixed: float32 [n, 3, h, w] in
    [0, 1] -> the same."""
    count, _, height, width = images.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=random)

    angle, scale = uniform(-math.pi, math.pi), torch.exp2(uniform(-1, 1))
    mirrored = torch.where(torch.rand(count, generator=random) < 0.5, -1.0, 1.0)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    # In coordinates from -1 to 1: a turn of pixels, not of the stretched square.
    rows = torch.stack(
        [
            torch.stack([cosine * mirrored, -sine * height / width]),
            torch.stack([sine * mirrored * width / height, cosine]),
        ]
    )
    affine = torch.cat([rows.permute(2, 0, 1), uniform(-0.5, 0.5, 2, 1)], dim=2)
    grid = F.affine_grid(affine, [count, 3, height, width], align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    colours = uniform(0, 1, 1, 1) * torch.eye(3) + uniform(-0.5, 0.5, 3, 3)
    mixed = torch.einsum("nij,njhw->nihw", colours, moved - 0.5) + uniform(0.3, 0.7, 1, 1, 1)
    return mixed.clamp(0, 1)


def channel_statistics(outputs: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel over batches of float32 [n, C, h, w]: [1, C, 1, 1] each, in one
    pass, in float64."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for output in outputs:
        values = output.double()
        count += values[:, 0].numel()
        total = total.to(values.device) + values.sum(dim=(0, 2, 3), keepdim=True)
        squares = squares.to(values.device) + values.square().sum(dim=(0, 2, 3), keepdim=True)
    mean = total / count
    # A channel that never changes says nothing; its differences are left as they are.
    variance = (squares / count - mean.square()).clamp_min(0)
    std = torch.where(variance > 1e-12 * (1 + mean.square()), variance.sqrt(), torch.ones_like(variance))
    return mean.float(), std.float()
