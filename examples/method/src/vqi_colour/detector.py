"""How far the colour at every position lies from the colours of good parts there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqi.detectors.interface import Detector, Scores
from vqi.detectors.maps import MapUpsampling
from vqi.platform.errors import BadInput
from vqi_colour.settings import ColourSettings


class Colour(Detector):
    """A Gaussian of colour for each cell of the image; a cell is as anomalous as its Mahalanobis distance."""

    method: ClassVar[str] = "colour"
    settings: ColourSettings

    def __init__(
        self, settings: ColourSettings, backbone: nn.Module, input_size: tuple[int, int], seed: int = 0
    ) -> None:
        super().__init__(settings, backbone, input_size, seed)
        self.grid = (input_size[0] // settings.cell, input_size[1] // settings.cell)
        if min(self.grid) < 1:
            raise BadInput(f"method.settings.cell is {settings.cell}, larger than the image; lower it.")
        self.upsample = MapUpsampling(self.grid, input_size, settings.smoothing)

    def embed(self, images: Tensor) -> Tensor:
        """The mean colour of every cell: float32 [N, 3, H, W] in [0, 1] -> float32 [N, 3, h, w]."""
        return F.avg_pool2d(images, self.settings.cell)

    def fit(self, embeddings: Iterable[Tensor], images: int) -> dict[str, Tensor]:
        """`mean` [3, h, w] and `whitening` [h, w, 3, 3] = L^-1, where L L^T is the covariance of a cell's colours.

        Raises BadInput where there are fewer than two normals.
        """
        if images < 2:
            raise BadInput(f"colour needs at least 2 normals to estimate a covariance; there are {images}.")
        count = 0
        total = torch.zeros(3, *self.grid, dtype=torch.float64, device=self.device)
        squares = torch.zeros(*self.grid, 3, 3, dtype=torch.float64, device=self.device)
        for batch in embeddings:
            colours = batch.double()
            count += len(colours)
            total += colours.sum(dim=0)
            squares += torch.einsum("nahw,nbhw->hwab", colours, colours)
        mean = total / count
        covariance = squares / count - torch.einsum("ahw,bhw->hwab", mean, mean)
        identity = torch.eye(3, dtype=torch.float64, device=self.device)
        factor = torch.linalg.cholesky(covariance + self.settings.spread**2 * identity)
        whitening = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
        return {"mean": mean.float(), "whitening": whitening.float().contiguous()}

    def score(self, embedding: Tensor, index: Mapping[str, Tensor]) -> Scores:
        """|L^-1 (x - mean)| of every cell is the map, its maximum the image score: float32 [N, 3, h, w] -> Scores."""
        centred = (embedding - index["mean"]).permute(0, 2, 3, 1)[..., None]
        distance = torch.linalg.vector_norm((index["whitening"] @ centred)[..., 0], dim=-1)
        anomaly_map = self.upsample(distance)
        return Scores(anomaly_map.amax(dim=(1, 2)), anomaly_map)
