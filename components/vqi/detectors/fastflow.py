"""FastFlow: Yu et al., "Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows", arXiv 2111.07677."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from vqi.detectors.backbones import Backbone
from vqi.detectors.flows import Coefficients, append_affine_coupling, empty_flow, seeded
from vqi.detectors.interface import Scores
from vqi.detectors.learner import Optimisation, Schedule, TrainedDetector, Views
from vqi.detectors.maps import MapUpsampling, image_score
from vqi.detectors.settings.fastflow import FastflowSettings


class Fastflow(TrainedDetector):
    """A flow of each stage's whole feature map, its subnetworks convolutional; a position is as anomalous as its
    latents are improbable."""

    method: ClassVar[str] = "fastflow"
    default_layers: ClassVar[Mapping[str, tuple[str, ...]]] = {"resnet": ("layer1", "layer2", "layer3")}

    settings: FastflowSettings
    backbone: Backbone

    def __init__(
        self, settings: FastflowSettings, backbone: Backbone, input_size: tuple[int, int], seed: int = 0
    ) -> None:
        super().__init__(settings, backbone, input_size, seed)
        shapes = list(backbone.shapes(input_size).values())
        with seeded(seed):
            # The paper's own for CNNs: features go through a trained LayerNorm first.
            self.norms = nn.ModuleList(nn.LayerNorm(shape) for shape in shapes)
            self.flows = nn.ModuleList(self._flow(shape) for shape in shapes)
        grids = backbone.grids(input_size).values()
        self.upsamplings = nn.ModuleList(MapUpsampling(grid, input_size, settings.smoothing) for grid in grids)

    def _flow(self, shape: tuple[int, int, int]) -> nn.Module:
        """Section 3.3, figure 2: blocks whose subnetworks are two convolutions, of 3x3 and 1x1 by turns."""
        flow = empty_flow(*shape)
        for step in range(self.settings.flow_steps):
            kernel = 1 if step % 2 and not self.settings.conv3x3_only else 3

            def subnet(channels: int, coefficients: int, kernel: int = kernel) -> nn.Module:
                hidden = max(1, int(channels * self.settings.hidden_ratio))
                return Coefficients(
                    nn.Conv2d(channels, hidden, kernel, padding="same"),
                    nn.ReLU(),
                    nn.Conv2d(hidden, coefficients, kernel, padding="same"),
                )

            append_affine_coupling(flow, subnet, self.settings.clamp)
        return flow

    def latents(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """float32 [N, 3, H, W] -> for each stage z float32 [N, C, h, w] and log|det dz/dx| float32 [N]."""
        features = self.backbone(images).values()
        return [flow(norm(feature)) for flow, norm, feature in zip(self.flows, self.norms, features, strict=True)]

    def optimisation(self, schedule: Schedule) -> Optimisation:
        """Adam at a constant rate."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return Optimisation(
            torch.optim.Adam(
                trained, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay, fused=True
            )
        )

    def views(self, images: Tensor, labels: Tensor | None, random: torch.Generator) -> Views:
        """The images as they are."""
        return {"images": images}

    def loss(self, views: Views) -> dict[str, Tensor]:
        """The negative log-likelihood of each stage's features without its constant, in nats, a mean over the images.

        Not by dimension: that leaves gradients of the size of Adam's weight decay, which then takes the flow back to
        the identity.
        """
        likelihoods = {
            layer: (0.5 * z.square().sum(dim=(1, 2, 3)) - log_determinant).mean()
            for layer, (z, log_determinant) in zip(
                self.backbone.settings.layers, self.latents(views["images"]), strict=True
            )
        }
        return {"loss": torch.stack(list(likelihoods.values())).sum(), **likelihoods}

    def score(self, embedding: Tensor, index: Mapping[str, Tensor]) -> Scores:
        """Section 3.3: probabilities of the latents at each position, brought to the input's size and averaged over the
        stages.

        float32 [N, 3, H, W] -> Scores. The log-likelihood is a mean over the channels, as in anomalib, and without its
        constant.
        """
        maps = []
        for upsample, (z, _) in zip(self.upsamplings, self.latents(embedding), strict=True):
            surprise = 0.5 * z.square().mean(dim=1)
            maps.append(upsample(surprise if self.settings.map == "likelihood" else -torch.exp(-surprise)))
        anomaly_map = torch.stack(maps).mean(dim=0)
        return Scores(image_score(anomaly_map, self.settings.image_score), anomaly_map)
