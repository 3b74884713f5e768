"""CS-Flow: Rudolph et al., "Fully Convolutional Cross-Scale-Flows for Image-based Defect Detection", arXiv
2110.02855."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from FrEIA.modules import GLOWCouplingBlock, PermuteRandom
from torch import Tensor, nn

from vqi.detectors.backbones import Backbone
from vqi.detectors.features import CommonGrid
from vqi.detectors.flows import empty_flow, seeded
from vqi.detectors.grids import Grid
from vqi.detectors.interface import Scores
from vqi.detectors.learner import Optimisation, Schedule, TrainedDetector, Views
from vqi.detectors.maps import MapUpsampling, image_score
from vqi.detectors.settings.cs_flow import CsFlowSettings

SCALES = 3
# anomalib's; the authors' code leaves Adam's own, .9 and .999.
BETAS = (0.5, 0.9)
Shape = tuple[int, int]


class CrossScaleSubnet(nn.Module):
    """Figure 4: the subnetwork of a coupling block, two convolutions at every scale, the hidden layers of neighbouring
    scales added in between.

    Values of all scales come and go as one row of positions, the finest scale first: [N, C, sum of h_s w_s].
    """

    def __init__(self, channels: int, coefficients: int, grids: Sequence[Shape], hidden: int, kernel: int) -> None:
        super().__init__()
        self.grids = list(grids)

        def convolution(inside: int, outside: int, stride: int = 1) -> nn.Module:
            return nn.Conv2d(inside, outside, kernel, stride, padding=kernel // 2)

        self.widen = nn.ModuleList(convolution(channels, hidden) for _ in grids)
        self.narrow = nn.ModuleList(convolution(hidden, coefficients) for _ in grids)
        self.to_finer = nn.ModuleList(convolution(hidden, coefficients) for _ in grids[1:])
        self.to_coarser = nn.ModuleList(convolution(hidden, coefficients, stride=2) for _ in grids[1:])
        # Trained from zero: every block begins as the identity.
        self.gain = nn.Parameter(torch.zeros(len(grids)))

    def forward(self, positions: Tensor) -> Tensor:
        """[N, channels, P] -> float32 [N, coefficients, P]: log scales and shifts, float32 whatever precision the
        convolutions run in."""
        hidden = [
            F.leaky_relu(widen(values), 0.1)
            for widen, values in zip(self.widen, in_maps(positions, self.grids), strict=True)
        ]
        outputs = [narrow(values) for narrow, values in zip(self.narrow, hidden, strict=True)]
        for finer, (up, down) in enumerate(zip(self.to_finer, self.to_coarser, strict=True)):
            coarser = finer + 1
            outputs[finer] = outputs[finer] + up(_resize(hidden[coarser], self.grids[finer]))
            outputs[coarser] = outputs[coarser] + _resize(down(hidden[finer]), self.grids[coarser])
        return in_positions([gain * values.float() for gain, values in zip(self.gain, outputs, strict=True)])


def in_positions(maps: Sequence[Tensor]) -> Tensor:
    """Maps [N, C, h_s, w_s] -> one row of positions [N, C, sum of h_s w_s]."""
    return torch.cat([values.flatten(2) for values in maps], dim=2)


def in_maps(positions: Tensor, grids: Sequence[Shape]) -> list[Tensor]:
    """The inverse of `in_positions`."""
    parts = positions.split([height * width for height, width in grids], dim=2)
    return [part.unflatten(2, grid) for part, grid in zip(parts, grids, strict=True)]


def _resize(values: Tensor, grid: Shape) -> Tensor:
    return (
        values if values.shape[2:] == grid else F.interpolate(values, size=grid, mode="bilinear", align_corners=False)
    )


class CsFlow(TrainedDetector):
    """One flow of the features of an image at three sizes, its subnetworks convolutions across the scales.

    The paper's coupling block works on three maps at once. With the maps arranged as one row of positions it is FrEIA's
    GLOW block, whose split is along the channels: only the subnetwork has to know where a scale begins.
    """

    method: ClassVar[str] = "cs_flow"
    # Hundreds of channels on grids of a few positions: a step takes 2.8 s so and 3.9 s channels-last
    # (docs/benchmarks.md).
    contiguous: ClassVar[tuple[str, ...]] = ("flow",)
    # For EfficientNet-B5 the end of stage 6 is the paper's layer 36, node features.6.8.
    default_layers: ClassVar[Mapping[str, tuple[str, ...]]] = {"efficientnet": ("features.6",), "resnet": ("layer3",)}

    settings: CsFlowSettings
    backbone: Backbone

    def __init__(
        self, settings: CsFlowSettings, backbone: Backbone, input_size: tuple[int, int], seed: int = 0
    ) -> None:
        super().__init__(settings, backbone, input_size, seed)
        self.sizes = [
            (math.ceil(input_size[0] / 2**scale), math.ceil(input_size[1] / 2**scale)) for scale in range(SCALES)
        ]
        self.common = nn.ModuleList(CommonGrid(backbone.grids(size)) for size in self.sizes)
        self.grids = [common.shape for common in self._common()]
        with seeded(seed):
            self.flow = self._flow(sum(backbone.channels.values()))
        enlarged = [
            Grid(*(axis.scaled(whole / side) for axis, whole, side in zip(common.grid, input_size, size, strict=True)))
            for common, size in zip(self._common(), self.sizes, strict=True)
        ]
        self.upsamplings = nn.ModuleList(MapUpsampling(grid, input_size, settings.smoothing) for grid in enlarged)

    def _common(self) -> list[CommonGrid]:
        return [cast(CommonGrid, module) for module in self.common]

    def _flow(self, channels: int) -> nn.Module:
        """Blocks of a random permutation of the channels, the same at every scale, and a coupling of both halves."""
        flow = empty_flow(channels, sum(height * width for height, width in self.grids))
        clamp = self.settings.clamp
        for block in range(self.settings.coupling_blocks):
            kernel = 5 if block == self.settings.coupling_blocks - 1 else 3
            subnet = functools.partial(
                CrossScaleSubnet, grids=self.grids, hidden=self.settings.hidden_channels, kernel=kernel
            )
            flow.append(PermuteRandom)
            # The soft clamping, 2/pi clamp atan(s / clamp): 2/pi is .636 in the authors' code.
            flow.append(
                GLOWCouplingBlock,
                subnet_constructor=subnet,
                clamp=clamp,
                clamp_activation=lambda s: 0.636 * torch.atan(s / clamp),
            )
        return flow

    def latents(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """float32 [N, 3, H, W] -> z of each scale, float32 [N, C, h_s, w_s], and log|det dz/dx| float32 [N]."""
        features = []
        for size, common in zip(self.sizes, self._common(), strict=True):
            scaled = images if size == self.sizes[0] else F.interpolate(images, size=size, mode="nearest")
            features.append(common.concatenated(self.backbone(scaled).values()))
        z, log_determinant = self.flow(in_positions(features))
        return in_maps(z, self.grids), log_determinant

    def optimisation(self, schedule: Schedule) -> Optimisation:
        """Adam at a constant rate."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        chosen = self.settings
        adam = torch.optim.Adam(
            trained,
            lr=chosen.learning_rate,
            betas=BETAS,
            eps=chosen.epsilon,
            weight_decay=chosen.weight_decay,
            fused=True,
        )
        return Optimisation(adam, clip=chosen.clip)

    def views(self, images: Tensor, labels: Tensor | None, random: torch.Generator) -> Views:
        """The images as they are."""
        return {"images": images}

    def loss(self, views: Views) -> dict[str, Tensor]:
        """The negative log-likelihood of the features without its constant, in nats a dimension, a mean over the
        images."""
        latents, log_determinant = self.latents(views["images"])
        z = in_positions(latents)
        return {"loss": (0.5 * z.square().sum(dim=(1, 2)) - log_determinant).mean() / z[0].numel()}

    def score(self, embedding: Tensor, index: Mapping[str, Tensor]) -> Scores:
        """|z|² as the measure of anomaly, its mean over everything as the image score, by position as the map.

        float32 [N, 3, H, W] -> Scores.
        """
        latents, _ = self.latents(embedding)
        maps = [upsample(z.square().mean(dim=1)) for upsample, z in zip(self.upsamplings, latents, strict=True)]
        anomaly_map = maps[0] if self.settings.map == "finest" else functools.reduce(torch.mul, maps)
        if self.settings.image_score == "mean":
            return Scores(0.5 * in_positions(latents).square().mean(dim=(1, 2)), anomaly_map)
        return Scores(image_score(anomaly_map, self.settings.image_score), anomaly_map)
