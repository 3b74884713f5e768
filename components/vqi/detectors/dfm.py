"""Deep-feature modelling.

Ahuja et al., "Probabilistic Modeling of Deep Features for Out-of-Distribution and Adversarial Detection", arXiv
1909.11786. The score is the feature-reconstruction error, as in Intel's visual-inspection system.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vqi.detectors.backbones import Backbone
from vqi.detectors.features import CommonGrid
from vqi.detectors.grids import Grid, averaging
from vqi.detectors.interface import Detector, Scores
from vqi.detectors.maps import MapUpsampling
from vqi.detectors.principal import leading, principal_components
from vqi.detectors.settings.dfm import DfmSettings
from vqi.platform.errors import BadInput
from vqi.platform.memory import announce


class Dfm(Detector):
    """A linear subspace of normal features; an image is as anomalous as what the subspace leaves out of it."""

    method: ClassVar[str] = "dfm"
    default_layers: ClassVar[Mapping[str, tuple[str, ...]]] = {"resnet": ("layer3",)}

    settings: DfmSettings
    backbone: Backbone
    pool_rows: Tensor
    pool_columns: Tensor

    def __init__(self, settings: DfmSettings, backbone: Backbone, input_size: tuple[int, int], seed: int = 0) -> None:
        super().__init__(settings, backbone, input_size, seed)
        self.common = CommonGrid(backbone.grids(input_size))
        self.grid = self.common.shape
        if settings.pool > min(self.grid):
            raise BadInput(
                f"method.settings.pool is {settings.pool}, more than the feature map of {self.grid[0]} x "
                f"{self.grid[1]}; lower it."
            )
        pooled = Grid(*(axis.regrouped(-(-axis.count // settings.pool)) for axis in self.common.grid))
        self.pooled_grid = pooled.shape
        self.pools_evenly = all(count % settings.pool == 0 for count in self.grid)
        for name, count, parts in zip(("pool_rows", "pool_columns"), self.grid, self.pooled_grid, strict=True):
            self.register_buffer(name, torch.from_numpy(averaging(count, parts)).float(), persistent=False)
        map_grid = self.common.grid if settings.localisation == "patch" else pooled
        self.upsample = MapUpsampling(map_grid, input_size, settings.smoothing)

    def embed(self, images: Tensor) -> Tensor:
        """The layers' maps on the finest one's grid: float32 [N, 3, H, W] -> float32 [N, C, h, w]."""
        return self.common.concatenated(self.backbone(images).values())

    def fit(self, embeddings: Iterable[Tensor], images: int) -> dict[str, Tensor]:
        """`mean` [d] and `components` [k, d] of the pooled, flattened maps; for localisation by patches `patch_mean`
        [C], `patch_components` [l, C].

        Raises BadInput where there are fewer than two normals.
        """
        if images < 2:
            raise BadInput(f"dfm needs at least 2 normals to find a direction in which they vary; there are {images}.")
        channels = sum(self.backbone.channels.values())
        rows = torch.empty(0)
        first = torch.zeros(channels, dtype=torch.float64, device=self.device)
        second = torch.zeros(channels, channels, dtype=torch.float64, device=self.device)
        filled = patches = 0
        for embedding in embeddings:
            pooled = self._pool(embedding)
            if not filled:
                announce(f"features of {images} normals", 4 * images * pooled.shape[1] * 2)
                rows = torch.empty(images, pooled.shape[1], device=pooled.device)
            rows[filled : filled + len(pooled)] = pooled
            filled += len(pooled)
            if self.settings.localisation == "patch":
                vectors = embedding.permute(0, 2, 3, 1).reshape(-1, channels).double()
                first += vectors.sum(dim=0)
                second.addmm_(vectors.T, vectors)
                patches += len(vectors)
        mean, components = principal_components(rows[:filled], self.settings.variance)
        index = {"mean": mean, "components": components}
        if self.settings.localisation == "patch":
            patch_mean = first / patches
            variances, directions = torch.linalg.eigh(second / patches - torch.outer(patch_mean, patch_mean))
            count = leading(variances.flip(0), self.settings.variance)
            index |= {
                "patch_mean": patch_mean.float(),
                "patch_components": directions.flip(1)[:, :count].T.float().contiguous(),
            }
        return index

    def _pool(self, embedding: Tensor) -> Tensor:
        """[N, C, h, w] -> [N, C ceil(h / pool) ceil(w / pool)].

        Where `pool` does not divide an axis its cells are equal all the same, and a little smaller: 15 positions pooled
        by 2 are 8 cells of 1.875, and a position between two of them counts in each by its share. So every position
        counts once, and no cell is noisier than the others.
        """
        if self.pools_evenly:
            return F.avg_pool2d(embedding, self.settings.pool).flatten(1)
        return (self.pool_rows @ embedding @ self.pool_columns.T).flatten(1)

    def score(self, embedding: Tensor, index: Mapping[str, Tensor]) -> Scores:
        """The squared reconstruction error of the whole image, and that of every position as the map: float32 [N, C, h,
        w] -> Scores."""
        residual = _residual(self._pool(embedding), index["mean"], index["components"])
        image_score = residual.square().sum(dim=1)
        if self.settings.localisation == "error":
            grid = residual.reshape(-1, embedding.shape[1], *self.pooled_grid).square().sum(dim=1)
        else:
            patches = embedding.permute(0, 2, 3, 1).reshape(-1, embedding.shape[1])
            grid = (
                _residual(patches, index["patch_mean"], index["patch_components"])
                .square()
                .sum(dim=1)
                .reshape(-1, *self.grid)
            )
        return Scores(image_score, self.upsample(grid))


def _residual(values: Tensor, mean: Tensor, components: Tensor) -> Tensor:
    """x - PCA⁻¹(PCA(x)) of `values` [n, d]."""
    centred = values - mean
    return centred - (centred @ components.T) @ components
