"""DRÆM: Zavrtanik et al., "A discriminatively trained reconstruction embedding for surface anomaly detection", arXiv
2108.07610.

An autoencoder learns to give back normal images from images with simulated anomalies; a second network, shown both,
learns where they were. Both start from nothing: no pretrained backbone is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqi.detectors.backbones import Backbone
from vqi.detectors.interface import Scores
from vqi.detectors.learner import Optimisation, Schedule, TrainedDetector, Views
from vqi.detectors.maps import image_score
from vqi.detectors.settings.draem import DraemSettings
from vqi.detectors.simulated_anomalies import simulate, turn
from vqi.platform.errors import BadInput

WINDOW = 21
"""Side of the window whose mean probability is the paper's image score, pixels (section 3.4)."""


DEPTH = 32
"""Pixels an axis that a position of the deepest grid stands for."""


class Draem(TrainedDetector):
    """The map is the log-odds of "anomalous" at every pixel: what the paper's softmax squashes, and float32 rounds to
    exactly 1, stays apart."""

    method: ClassVar[str] = "draem"

    settings: DraemSettings
    backbone: Backbone

    def __init__(self, settings: DraemSettings, backbone: Backbone, input_size: tuple[int, int], seed: int = 0) -> None:
        super().__init__(settings, backbone, input_size, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.reconstructive = Reconstructive(settings.reconstructive_width, settings.sspcab)
            self.discriminative = Discriminative(settings.discriminative_width)
        cast(Any, self).to(memory_format=torch.channels_last)
        self.ssim = StructuralSimilarity()

    def optimisation(self, schedule: Schedule) -> Optimisation:
        """Section 4.1: Adam; the rate falls at .8 and at .9 of the steps. Raises BadInput where a step has one value to
        normalise by."""
        if schedule.batch_size == 1 and max(self.input_size) < 2 * DEPTH:
            raise BadInput(
                f"draem cannot learn from one image of less than {2 * DEPTH} pixels a step; raise train.batch_size or "
                "image.size."
            )
        trained = [*self.reconstructive.parameters(), *self.discriminative.parameters()]
        falls = (0.8 * schedule.steps, 0.9 * schedule.steps)
        return Optimisation(
            torch.optim.Adam(trained, lr=self.settings.learning_rate, fused=True),
            lambda step: self.settings.decay ** sum(step >= fall for fall in falls),
        )

    def views(self, images: Tensor, labels: Tensor | None, random: torch.Generator) -> Views:
        """Section 3.3: `normal` I, some of them turned; `simulated` I_a, half of them with an anomaly; its `mask` M_a
        (figure 4)."""
        normal = turn(images, self.settings.turned, self.settings.turn, random)
        changed, mask = simulate(
            normal,
            self.extra,
            anomalous=self.settings.anomalous,
            opacity=self.settings.opacity,
            threshold=self.settings.threshold,
            finest=self.settings.finest,
            random=random,
        )
        return {"normal": normal, "simulated": changed, "mask": mask}

    def loss(self, views: Views) -> dict[str, Tensor]:
        """Equation 4: L = L_rec(I, I_r) + L_seg(M_a, M), L_rec = l2 + SSIM (equations 1 to 3, weight 1), L_seg the
        focal loss."""
        reconstruction, log_odds, parts = self._networks(views["simulated"])
        with torch.autocast(reconstruction.device.type, enabled=False):
            parts |= {
                "l2": F.mse_loss(reconstruction, views["normal"]),
                "ssim": 1 - self.ssim(reconstruction, views["normal"]).mean(),
                "focal": focal_loss(log_odds, views["mask"][:, 0]),
            }
        weights = {"sspcab": self.settings.sspcab_weight}
        return {"loss": torch.stack([weights.get(name, 1.0) * part for name, part in parts.items()]).sum(), **parts}

    def score(self, embedding: Tensor, index: Mapping[str, Tensor]) -> Scores:
        """Section 3.4, on log-odds: images float32 [N, 3, H, W] in [0, 1] -> their maps, and one score an image."""
        device = embedding.device.type
        with torch.autocast(device, dtype=self.backbone.precision, enabled=self.backbone.precision != torch.float32):
            _, anomaly_map, _ = self._networks(embedding)
        if self.settings.image_score == "window":
            return Scores(windowed_log_odds(anomaly_map, WINDOW), anomaly_map)
        return Scores(image_score(anomaly_map, self.settings.image_score), anomaly_map)

    def _networks(self, images: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """[N, 3, H, W] -> reconstruction [N, 3, H, W] and log-odds [N, H, W], float32, and the losses of what is inside
        (SSPCAB's)."""
        if not torch.compiler.is_exporting():
            images = images.contiguous(memory_format=torch.channels_last)
        reconstruction, parts = self.reconstructive(images)
        logits = self.discriminative(torch.cat([images, reconstruction.to(images.dtype)], dim=1)).float()
        return reconstruction.float(), logits[:, 1] - logits[:, 0], parts


def focal_loss(log_odds: Tensor, mask: Tensor, gamma: float = 2.0) -> Tensor:
    """Lin et al., arXiv 1708.02002, of two classes: the mean of -(1 - p)^gamma log p, p the probability of the true
    one. Both [N, H, W]."""
    margin = torch.where(mask > 0.5, log_odds, -log_odds)
    return (torch.sigmoid(-margin) ** gamma * F.softplus(-margin)).mean()


def windowed_log_odds(log_odds: Tensor, side: int) -> Tensor:
    """The log-odds of the largest mean probability of a `side` x `side` window: [N, H, W] -> [N].

    The paper's image score, max over windows of mean sigmoid(d), as log-odds: the same order, and it never rounds to 1.
    Means of p and of 1 - p are taken as logarithms, axis by axis. Windows lie inside the image: one that zeros outside
    belong to has no larger mean than the nearest that does.
    """
    means = []
    for logarithms in (F.logsigmoid(log_odds), F.logsigmoid(-log_odds)):
        for axis in (1, 2):
            length = logarithms.shape[axis]
            taken = min(side, length)
            shifted = [logarithms.narrow(axis, start, length - taken + 1) for start in range(taken)]
            logarithms = torch.logsumexp(torch.stack(shifted), dim=0)
        means.append(logarithms)
    return (means[0] - means[1]).amax(dim=(1, 2))


class StructuralSimilarity(nn.Module):
    """SSIM (Wang et al. 2004, equation 13) at every pixel of images in [0, 1]: Gaussian windows of 11 x 11, sigma 1.5,
    zeros outside."""

    kernel: Tensor

    def __init__(self, side: int = 11, sigma: float = 1.5) -> None:
        super().__init__()
        offsets = torch.arange(side, dtype=torch.float64) - side // 2
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        self.register_buffer("kernel", (kernel / kernel.sum()).float(), persistent=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Two of float32 [N, C, H, W] -> [N, C, H, W], at most 1."""
        mean, other_mean, square, other_square, product = self._smooth(
            torch.stack([first, second, first * first, second * second, first * second])
        )
        variances = square - mean**2 + other_square - other_mean**2
        covariance = product - mean * other_mean
        stability, contrast_stability = 0.01**2, 0.03**2
        luminance = (2 * mean * other_mean + stability) / (mean**2 + other_mean**2 + stability)
        return luminance * (2 * covariance + contrast_stability) / (variances + contrast_stability)

    def _smooth(self, images: Tensor) -> Tensor:
        planes = images.reshape(-1, 1, *images.shape[-2:])
        margin = len(self.kernel) // 2
        planes = F.conv2d(planes, self.kernel.view(1, 1, -1, 1), padding=(margin, 0))
        return F.conv2d(planes, self.kernel.view(1, 1, 1, -1), padding=(0, margin)).reshape(images.shape)


class Reconstructive(nn.Module):
    """Section 3.1, the encoder-decoder of figure 2: images [N, 3, H, W] -> images, and SSPCAB's loss where it is used.

    Four stages that halve the grid, a bottleneck, and back; no connections across. `width` channels at first, eight
    times that at the bottleneck.
    """

    def __init__(self, width: int, sspcab: bool) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.encoder = nn.ModuleList(
            Stage(before, after, after) for before, after in zip([3, *widths], widths, strict=False)
        )
        self.bottleneck: nn.Module = Sspcab(8 * width) if sspcab else Stage(8 * width, 8 * width, 8 * width)
        ways = zip([8 * width, 4 * width, 2 * width, width], [4 * width, 2 * width, width, width], strict=True)
        self.decoder = nn.ModuleList(Enlargement(before, before, after) for before, after in ways)
        self.head = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        grids: list[torch.Size] = []
        x = images
        for stage in self.encoder:
            x = stage(x)
            grids.append(x.shape[-2:])
            x = F.max_pool2d(x, 2)
        inner = self.bottleneck(x)
        losses = {"sspcab": F.mse_loss(inner.float(), x.float())} if isinstance(self.bottleneck, Sspcab) else {}
        x = inner
        for enlargement, grid in zip(self.decoder, reversed(grids), strict=True):
            x = enlargement(x, grid)
        return self.head(x), losses


class Discriminative(nn.Module):
    """Section 3.2, the U-Net of figure 2: images and reconstructions [N, 6, H, W] -> logits of normal and anomalous [N,
    2, H, W].

    Six stages, five halvings; on the way back each stage also sees what the encoder had on its grid.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width, 8 * width, 8 * width]
        self.encoder = nn.ModuleList(
            Stage(before, after, after) for before, after in zip([6, *widths], widths, strict=False)
        )
        ways = zip([8, 8, 4, 2, 1], [8, 4, 2, 1, 1], [8, 8, 4, 2, 1], strict=True)
        self.decoder = nn.ModuleList(
            Enlargement(before * width, after * width, after * width, across * width) for before, after, across in ways
        )
        self.head = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for stage in self.encoder:
            x = stage(F.max_pool2d(x, 2) if kept else x)
            kept.append(x)
        for enlargement, across in zip(self.decoder, reversed(kept[:-1]), strict=True):
            x = enlargement(x, across.shape[-2:], across)
        return self.head(x)


class Convolution(nn.Sequential):
    """3 x 3 convolution, batch normalisation, ReLU. The normalisation takes any bias away again, so the convolution has
    none."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(
            nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
        )


class Stage(nn.Sequential):
    """Two convolutions on one grid."""

    def __init__(self, before: int, between: int, after: int) -> None:
        super().__init__(Convolution(before, between), Convolution(between, after))


class Enlargement(nn.Module):
    """Bilinear, corners on corners, to a finer grid; a convolution; and two more that also see what came `across`,
    where something does.

    The grid is twice the size, or one more where halving had dropped a row or a column: so any image size will do.
    """

    def __init__(self, before: int, between: int, after: int, across: int = 0) -> None:
        super().__init__()
        self.convolution = Convolution(before, between)
        self.stage = Stage(between + across, between, after)

    def forward(self, x: Tensor, grid: tuple[int, int], across: Tensor | None = None) -> Tensor:
        x = self.convolution(F.interpolate(x, size=grid, mode="bilinear", align_corners=True))
        return self.stage(x if across is None else torch.cat([x, across], dim=1))


class Sspcab(nn.Module):
    """Self-supervised predictive convolutional attentive block: Ristea et al., arXiv 2111.09099, section 3 (k' = 1, d =
    1, r = 8).

    Every position is predicted from four around it and never from itself, then channels are weighed: [N, C, h, w] ->
    the same.
    """

    DISTANCE = 2

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.corners = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(4))
        self.squeeze = nn.Linear(channels, max(1, channels // reduction))
        self.excite = nn.Linear(max(1, channels // reduction), channels)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = F.pad(x, (self.DISTANCE,) * 4)
        shifts = [(0, 0), (0, 2 * self.DISTANCE), (2 * self.DISTANCE, 0), (2 * self.DISTANCE, 2 * self.DISTANCE)]
        taken = [
            corner(padded[..., top : top + height, left : left + width])
            for corner, (top, left) in zip(self.corners, shifts, strict=True)
        ]
        predicted = F.relu(taken[0] + taken[1] + taken[2] + taken[3])
        attention = torch.sigmoid(self.excite(F.relu(self.squeeze(predicted.mean(dim=(2, 3))))))
        return predicted * attention[:, :, None, None]
