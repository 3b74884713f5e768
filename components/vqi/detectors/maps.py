"""From a coarse grid of distances to an anomaly map at the input's size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vqi.detectors.grids import Grid
from vqi.detectors.upsampling import matrices


class MapUpsampling(nn.Module):
    """`Upsampling` as a part of a network."""

    rows: Tensor
    columns: Tensor

    def __init__(self, grid: Grid | tuple[int, int], size: tuple[int, int], sigma: float) -> None:
        super().__init__()
        for name, matrix in zip(("rows", "columns"), matrices(grid, size, sigma), strict=True):
            self.register_buffer(name, torch.from_numpy(matrix), persistent=False)

    def forward(self, grid: Tensor) -> Tensor:
        """float32 [N, h, w] -> float32 [N, H, W]."""
        return self.rows @ grid @ self.columns.T


# The share of an anomaly map that its image score is the mean of, where that is asked for.
TOP_SHARE = 0.005


def image_score(anomaly_map: Tensor, kind: str) -> Tensor:
    """One score an image from its map: float32 [N, H, W] -> [N].

    `max`: the largest value, as most papers have it; `top`: the mean of the largest half percent of pixels, so that no
    single one decides.
    """
    values = anomaly_map.flatten(1)
    if kind == "max":
        return values.amax(dim=1)
    # int: where a graph is traced, a size is a tensor.
    return values.topk(max(1, round(TOP_SHARE * int(values.shape[1]))), dim=1).values.mean(dim=1)
