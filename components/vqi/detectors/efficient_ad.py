"""EfficientAD: Batzner et al., "Accurate Visual Anomaly Detection at Millisecond-Level Latencies", arXiv 2303.14535."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqi.detectors.backbones import Backbone
from vqi.detectors.distillation import Distillation, channel_statistics
from vqi.detectors.grids import Cells, Grid
from vqi.detectors.interface import ImageBatches, Scores
from vqi.detectors.learner import Optimisation, Pretraining, Schedule, TrainedDetector, Views
from vqi.detectors.maps import MapUpsampling, image_score
from vqi.detectors.patch_description import MARGIN, MEAN, STD, STRIDE, PatchDescription, grid_size
from vqi.detectors.settings import Budget
from vqi.detectors.settings.efficient_ad import EfficientAdSettings
from vqi.storage.weights import load_stored

# Section 3.4: the quantiles of normal maps that become 0 and 0.1.
QUANTILES = (0.9, 0.995)
# Values of maps that quantiles are taken of at most; more maps are thinned evenly.
MAP_VALUES = 2**24
DISTILLATION_BATCH = 16


class EfficientAd(TrainedDetector):
    """A student predicts, on normals, the outputs of a teacher and of an autoencoder; where it fails, something is out
    of place.

    The student's first half of channels follows the teacher (local anomalies), its second half the autoencoder (logical
    ones: the autoencoder describes an image through 64 numbers, so that it knows what belongs where).
    """

    method: ClassVar[str] = "efficient_ad"
    default_layers: ClassVar[Mapping[str, tuple[str, ...]]] = {"resnet": ("layer2", "layer3")}

    settings: EfficientAdSettings
    backbone: Backbone
    teacher_mean: Tensor
    teacher_std: Tensor
    quantiles: Tensor

    def __init__(
        self, settings: EfficientAdSettings, backbone: Backbone, input_size: tuple[int, int], seed: int = 0
    ) -> None:
        """Raises BadInput where the images are smaller than a patch."""
        super().__init__(settings, backbone, input_size, seed)
        grid = grid_size(input_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.teacher = PatchDescription(settings.model_size, settings.channels).requires_grad_(False)
            self.student = PatchDescription(settings.model_size, 2 * settings.channels)
            self.autoencoder = Autoencoder(settings.channels, input_size, grid)
        self.register_buffer("teacher_mean", torch.zeros(1, settings.channels, 1, 1))
        self.register_buffer("teacher_std", torch.ones(1, settings.channels, 1, 1))
        # Of the student-teacher map and of the student-autoencoder map; these leave maps as they are.
        self.register_buffer("quantiles", torch.tensor([[0.0, 0.1], [0.0, 0.1]]))
        self.upsample = MapUpsampling(Grid(*(Cells(count + 2 * MARGIN, STRIDE) for count in grid)), input_size, 0.0)
        self.with_teacher, self.with_autoencoder = slice(settings.channels), slice(settings.channels, None)

    def pretraining(self) -> Pretraining | None:
        """Where no teacher is given, it learns from the backbone first."""
        if self.settings.teacher:
            return None
        budget = Budget(batch_size=DISTILLATION_BATCH, steps=self.settings.distillation_steps)
        return Pretraining("teacher", Distillation(self.teacher, self.backbone, self.input_size, self.extra), budget)

    @torch.no_grad()
    def prepare(self, normals: ImageBatches) -> None:
        """Load the teacher where one is given; mean and deviation of its channels over the normals (section 3.2)."""
        if self.settings.teacher:
            names = ("method.settings.teacher", "method.settings.teacher_sha256")
            state, origin = load_stored(
                self.settings.teacher,
                self.settings.teacher_sha256,
                *names,
                "make one with vqi distill, or leave it empty",
            )
            self.teacher.load(state, origin.label)
        mean, std = channel_statistics(self.teacher(batch.to(self.device)) for batch in normals)
        self.teacher_mean.copy_(mean)
        self.teacher_std.copy_(std)

    def optimisation(self, schedule: Schedule) -> Optimisation:
        """Adam over student and autoencoder; the rate falls to a tenth for the last 5 % of the steps."""
        parameters = [*self.student.parameters(), *self.autoencoder.parameters()]
        falls = int(0.95 * schedule.steps)
        optimiser = torch.optim.Adam(
            parameters, self.settings.learning_rate, weight_decay=self.settings.weight_decay, fused=True
        )
        return Optimisation(optimiser, lambda step: 1.0 if step < falls else 0.1)

    def views(self, images: Tensor, labels: Tensor | None, random: torch.Generator) -> Views:
        """`images` as they are; `augmented`, what the autoencoder learns from; `penalty`, images of anything else,
        where there are any."""
        views = {"images": images, "augmented": augmented(images, random)}
        if self.extra is not None:
            numbers = torch.randint(len(self.extra), (len(images),), generator=random).tolist()
            grey = torch.rand(len(images), 1, 1, 1, generator=random) < 0.3
            others = self.extra.load(numbers)
            views["penalty"] = torch.where(grey, luminance(others), others)
        return views

    def loss(self, views: Views) -> dict[str, Tensor]:
        """Section 3.2 and 3.3, the training algorithm of appendix A."""
        differences = (
            (self.taught(views["images"]) - self.student(views["images"], self.with_teacher)).square().flatten(1)
        )
        # As many as lie at or above the quantile of 1 - share of each image.
        hardest = differences.shape[1] - math.ceil((1 - self.settings.hard_share) * (differences.shape[1] - 1))
        losses = {"student_teacher": differences.topk(hardest, dim=1).values.mean()}
        if "penalty" in views:
            losses["penalty"] = self.student(views["penalty"], self.with_teacher).square().mean()
        reconstructed = self.autoencoder(views["augmented"])
        losses["autoencoder"] = (self.taught(views["augmented"]) - reconstructed).square().mean()
        losses["student_autoencoder"] = (
            (reconstructed - self.student(views["augmented"], self.with_autoencoder)).square().mean()
        )
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    @torch.no_grad()
    def taught(self, images: Tensor) -> Tensor:
        """The teacher's normalised outputs: float32 [N, 3, H, W] -> [N, C, h, w]."""
        return (self.teacher(images) - self.teacher_mean) / self.teacher_std

    @torch.no_grad()
    def finish(self, normals: ImageBatches) -> None:
        """Section 3.4: the quantiles of both maps of held-out normals, others than those that set the threshold.

        From the normals that set the threshold the quantiles would follow the highest of those very maps, which lowers
        their scores and not those of new parts: 14.3 % promised, 23.8 % by simulation with heavy tails
        (tests/steps/test_promises.py).
        """
        thinning = max(1, math.ceil(len(normals) * math.prod(self.input_size) / MAP_VALUES))
        maps = [
            [values.flatten(1)[:, ::thinning].cpu().numpy() for values in self.maps(batch.to(self.device))]
            for batch in normals
        ]
        quantiles = [np.quantile(np.concatenate([pair[kind].ravel() for pair in maps]), QUANTILES) for kind in range(2)]
        self.quantiles.copy_(torch.from_numpy(np.stack(quantiles)))

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The student-teacher and the student-autoencoder map, not yet normalised: float32 [N, 3, H, W] -> [N, H, W]
        each."""
        precision = self.backbone.precision
        with torch.autocast(images.device.type, dtype=precision, enabled=precision != torch.float32):
            taught, student, reconstructed = self.taught(images), self.student(images), self.autoencoder(images)
        local = (taught - student[:, self.with_teacher]).square().mean(dim=1)
        logical = (reconstructed - student[:, self.with_autoencoder]).square().mean(dim=1)
        # Nothing is known of the borders that no patch's middle reaches: zero, as published.
        return self.upsample(F.pad(local, [MARGIN] * 4)), self.upsample(F.pad(logical, [MARGIN] * 4))

    def score(self, embedding: Tensor, index: Mapping[str, Tensor]) -> Scores:
        """Section 3.4: the mean of both maps, each scaled so that its quantiles of normals are 0 and 0.1: float32 [N,
        3, H, W] -> Scores."""
        low, high = self.quantiles[:, 0], self.quantiles[:, 1]
        scale = 0.1 / (high - low).clamp_min(1e-12)
        local, logical = self.maps(embedding)
        anomaly_map = 0.5 * ((local - low[0]) * scale[0] + (logical - low[1]) * scale[1])
        return Scores(image_score(anomaly_map, self.settings.image_score), anomaly_map)


class Autoencoder(nn.Module):
    """Predicts the teacher's outputs from 64 numbers an image (appendix A): six convolutions down, eight up.

    The last convolution of the encoder spans 8 x 8, all that is left of 256 x 256 pixels; of smaller images less is
    left, and it spans that.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, input_size: tuple[int, int], grid: tuple[int, int]) -> None:
        super().__init__()
        left = (min(input_size[0] // 32, 8), min(input_size[1] // 32, 8))
        widths = (3, 32, 32, 64, 64, 64)
        self.encoder = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(widths)
        )
        self.encoder.append(nn.Conv2d(64, 64, left))
        self.decoder = nn.ModuleList(nn.Conv2d(64, 64, 4, padding=2) for _ in range(6))
        self.decoder.extend([nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, channels, 3, padding=1)])
        divisors = ((64, 1), (32, 0), (16, 1), (8, 0), (4, 1), (2, 1))
        self.sizes = [tuple(max(1, side // divisor - less) for side in input_size) for divisor, less in divisors] + [
            grid
        ]
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """float32 [N, 3, H, W] in [0, 1] -> [N, channels, h, w]."""
        values = (images - self.mean) / self.std
        for convolution in self.encoder[:-1]:
            values = F.relu(convolution(values))
        values = self.encoder[-1](values)
        for number, (convolution, size) in enumerate(zip(self.decoder, self.sizes, strict=False)):
            values = F.relu(convolution(F.interpolate(values, size=size, mode="bilinear", align_corners=False)))
            if number < 6:
                values = F.dropout(values, 0.2, self.training)
        return self.decoder[-1](values).float()


def luminance(images: Tensor) -> Tensor:
    """Grey in three channels (ITU-R 601): float32 [n, 3, h, w] -> the same."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True).expand_as(images)


def augmented(images: Tensor, random: torch.Generator) -> Tensor:
    """Brightness, contrast or saturation of each image, one of them, changed by 0.8 to 1.2: float32 [n, 3, h, w] in [0,
    1] -> the same.

    All three move an image towards or away from another: black, its own mean grey, its own grey picture.
    """
    kind = torch.randint(3, (len(images), 1, 1, 1), generator=random)
    factor = 0.8 + 0.4 * torch.rand(len(images), 1, 1, 1, generator=random)
    grey = luminance(images)
    mean = grey.mean(dim=(1, 2, 3), keepdim=True)
    other = torch.where(kind == 0, torch.zeros_like(mean), torch.where(kind == 1, mean, grey))
    return (factor * images + (1 - factor) * other).clamp(0, 1)
