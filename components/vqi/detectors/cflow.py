"""CFLOW-AD: Gudovskiy et al., "Real-Time Unsupervised Anomaly Detection with Localization via Conditional Normalizing
Flows", arXiv 2107.12571."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqi.detectors.backbones import Backbone
from vqi.detectors.flows import Coefficients, append_affine_coupling, empty_flow, seeded
from vqi.detectors.grids import Cells, Grid
from vqi.detectors.interface import ImageBatches, Scores
from vqi.detectors.learner import Optimisation, Schedule, TrainedDetector, Views
from vqi.detectors.maps import MapUpsampling, image_score
from vqi.detectors.settings.cflow import CflowSettings
from vqi.platform.errors import BadInput


class Positions(NamedTuple):
    """Feature vectors of positions, float32 [R, C], and the encodings of where they are, float32 [R, condition]."""

    vectors: Tensor
    encodings: Tensor


class Cflow(TrainedDetector):
    """A flow of each scale's feature vectors, conditioned on where they are in the image; a position is as anomalous as
    its vectors are unlikely."""

    method: ClassVar[str] = "cflow"
    default_layers: ClassVar[Mapping[str, tuple[str, ...]]] = {"resnet": ("layer2", "layer3", "layer4")}

    settings: CflowSettings
    backbone: Backbone
    likeliest: Tensor

    def __init__(self, settings: CflowSettings, backbone: Backbone, input_size: tuple[int, int], seed: int = 0) -> None:
        super().__init__(settings, backbone, input_size, seed)
        if settings.condition % 4:
            raise BadInput(
                f"method.settings.condition is {settings.condition}; it must be a multiple of 4: a sine and a cosine "
                "for each axis."
            )
        shapes = list(backbone.shapes(input_size).values())
        self.grids = [shape[1:] for shape in shapes]
        with seeded(seed):
            self.flows = nn.ModuleList(self._flow(channels) for channels, _, _ in shapes)
        for number, grid in enumerate(self.grids):
            self.register_buffer(f"encoding_{number}", position_encoding(settings.condition, grid), persistent=False)
        # A position of the grid's border stands for the image's border, as the authors have it.
        on_corners = [_on_corners(grid, input_size) for grid in self.grids]
        self.upsamplings = nn.ModuleList(MapUpsampling(grid, input_size, settings.smoothing) for grid in on_corners)
        self.register_buffer("likeliest", torch.zeros(len(shapes)))

    def _flow(self, channels: int) -> nn.Module:
        """Blocks whose subnetworks are two linear layers that read half of the channels and the position."""
        flow = empty_flow(channels)
        for _ in range(self.settings.coupling_blocks):
            append_affine_coupling(flow, subnet, self.settings.clamp, self.settings.condition)
        return flow

    def positions(self, images: Tensor) -> list[Positions]:
        """float32 [N, 3, H, W] -> the N h w positions of each scale, image by image and row by row."""
        scales = []
        for number, feature in enumerate(self.backbone(images).values()):
            encoding = self.get_buffer(f"encoding_{number}")
            encodings = encoding.expand(feature.shape[0], -1, -1).reshape(-1, encoding.shape[1])
            scales.append(Positions(feature.permute(0, 2, 3, 1).reshape(-1, feature.shape[1]), encodings))
        return scales

    def likelihood(self, scale: int, positions: Positions) -> Tensor:
        """log p(vector | position) under a standard normal prior of the latents, in nats a dimension: float32 [R]."""
        z, log_determinant = self.flows[scale](positions.vectors, [positions.encodings])
        channels = z.shape[1]
        return (log_determinant - 0.5 * z.square().sum(dim=1)) / channels - 0.5 * math.log(2 * math.pi)

    def optimisation(self, schedule: Schedule) -> Optimisation:
        """Adam at a constant rate, as in anomalib; the paper's follows a cosine."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return Optimisation(torch.optim.Adam(trained, lr=self.settings.learning_rate, fused=True))

    def views(self, images: Tensor, labels: Tensor | None, random: torch.Generator) -> Views:
        """The images as they are, and a random number for each position of each scale, [n, sum of h w]: the order they
        are learnt from."""
        count = sum(height * width for height, width in self.grids)
        return {"images": images, "order": torch.rand(len(images), count, generator=random)}

    @torch.no_grad()
    def mini_batches(self, views: Views) -> Iterator[Views]:
        """The batch's positions in random order, a fibre of them an optimiser step, until the finest scale has none
        left."""
        positions = self.positions(views["images"].to(self.device))
        orders = views["order"].split([height * width for height, width in self.grids], dim=1)
        length = min(self.settings.fibre, *(len(scale.vectors) for scale in positions))
        fibres = [order.flatten().argsort().to(self.device).split(length) for order in orders]
        for step in range(max(map(len, fibres))):
            mini_batch: dict[str, Tensor] = {}
            for number, (scale, parts) in enumerate(zip(positions, fibres, strict=True)):
                # What is left over at the end of a batch is less than a fibre and another part of it in every batch.
                if step < len(parts) and len(parts[step]) == length:
                    chosen = parts[step]
                    mini_batch |= {
                        f"vectors_{number}": scale.vectors[chosen],
                        f"encodings_{number}": scale.encodings[chosen],
                    }
            if mini_batch:
                yield mini_batch

    def loss(self, views: Views) -> dict[str, Tensor]:
        """-log sigmoid of the log-likelihood, a mean over the positions of each scale: of a mini_batch's fibres, or of
        all of the images."""
        scales = dict(enumerate(self.positions(views["images"]))) if "images" in views else _fibres(views)
        losses = {
            self.backbone.settings.layers[scale]: -F.logsigmoid(self.likelihood(scale, positions)).mean()
            for scale, positions in scales.items()
        }
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    def finish(self, normals: ImageBatches) -> None:
        """The likeliest position of the normals at each scale, which probabilities are relative to.

        The authors take it over the images that are scored, and so does anomalib over each batch: scores then depend on
        what is scored together.
        """
        maxima = [
            torch.stack([values.amax() for values in self._likelihoods(batch.to(self.device))]) for batch in normals
        ]
        self.likeliest.copy_(torch.stack(maxima).amax(dim=0))

    def _likelihoods(self, images: Tensor) -> list[Tensor]:
        """float32 [N, 3, H, W] -> the log-likelihood of each position at each scale, float32 [N, h, w]."""
        scales = enumerate(zip(self.positions(images), self.grids, strict=True))
        return [self.likelihood(number, positions).reshape(-1, *grid) for number, (positions, grid) in scales]

    def score(self, embedding: Tensor, index: Mapping[str, Tensor]) -> Scores:
        """Minus the sum over the scales of the positions' probabilities, brought to the input's size: float32 [N, 3, H,
        W] -> Scores."""
        scales = zip(self.upsamplings, self._likelihoods(embedding), self.likeliest, strict=True)
        anomaly_map = -functools.reduce(
            torch.add, [upsample(torch.exp(values - likeliest)) for upsample, values, likeliest in scales]
        )
        return Scores(image_score(anomaly_map, self.settings.image_score), anomaly_map)


def _on_corners(grid: tuple[int, int], size: tuple[int, int]) -> Grid:
    return Grid(*(Cells.on_corners(count, side) for count, side in zip(grid, size, strict=True)))


def subnet(channels: int, coefficients: int) -> nn.Module:
    """What predicts a coupling's scales and shifts from `channels` values."""
    return Coefficients(nn.Linear(channels, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, coefficients))


def position_encoding(length: int, grid: tuple[int, int]) -> Tensor:
    """Sines and cosines of the column in the first half, of the row in the second, float32 [h w, length]."""
    half = length // 2
    frequencies = torch.exp(torch.arange(0, half, 2) * (-math.log(1e4) / half))

    def axis(size: int) -> Tensor:
        angles = torch.arange(size)[:, None] * frequencies
        return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)

    height, width = grid
    columns = axis(width)[None].expand(height, -1, -1)
    rows = axis(height)[:, None].expand(-1, width, -1)
    return torch.cat([columns, rows], dim=2).reshape(height * width, length)


def _fibres(mini_batch: Views) -> dict[int, Positions]:
    """The positions of a mini_batch by the number of their scale."""
    numbers = sorted(int(name.removeprefix("vectors_")) for name in mini_batch if name.startswith("vectors_"))
    return {number: Positions(mini_batch[f"vectors_{number}"], mini_batch[f"encodings_{number}"]) for number in numbers}
