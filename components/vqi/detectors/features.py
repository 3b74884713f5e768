"""Feature maps of several layers on one grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqi.detectors.grids import Grid, finest, interpolation


class CommonGrid(nn.Module):
    """Brings the feature maps of a backbone's layers, in their order, to one grid.

    That is `target`, or the grid of the layer with the most positions. `kind`: bilinear, or nearest, which repeats a
    coarser layer's values. `grid` is the target, `shape` its height and width.
    """

    def __init__(self, grids: Mapping[str, Grid], target: Grid | None = None, kind: str = "bilinear") -> None:
        super().__init__()
        self.grid = target or finest(list(grids.values()))
        self.shape, self.kind = self.grid.shape, kind
        self.same = [grid.shape == self.shape for grid in grids.values()]
        # Where layers cover the same pixels, torch's own interpolation is the same and quicker.
        self.covering = [[axis.span for axis in grid] == [axis.span for axis in self.grid] for grid in grids.values()]
        for number, grid in enumerate(grids.values()):
            if self.same[number]:
                continue
            for name, axis, wanted in zip(("rows", "columns"), grid, self.grid, strict=True):
                matrix = torch.from_numpy(interpolation(axis, wanted.centres(), kind)).float()
                self.register_buffer(f"{name}_{number}", matrix, persistent=False)

    def forward(self, features: Iterable[Tensor]) -> list[Tensor]:
        """float32 [N, C_i, h_i, w_i] of every layer -> float32 [N, C_i, h, w]."""
        return [self._resize(number, feature) for number, feature in enumerate(features)]

    def concatenated(self, features: Iterable[Tensor]) -> Tensor:
        """float32 [N, C_i, h_i, w_i] of every layer -> float32 [N, sum of C_i, h, w]."""
        return torch.cat(self.forward(features), dim=1)

    def channels_last(self, features: Iterable[Tensor]) -> list[Tensor]:
        """float32 [N, C_i, h_i, w_i] of every layer -> float32 [N, h, w, C_i], as patches are compared.

        In an exported graph a layer is turned first, on its own grid, and interpolated by two matrix products: OpenVINO
        has no quick kernel that turns what it has interpolated (2 of 19 ms of PatchCore's embedding on ResNet-18).
        """
        if torch.compiler.is_exporting():
            return [self._turned_and_resized(number, feature) for number, feature in enumerate(features)]
        return [feature.permute(0, 2, 3, 1) for feature in self.forward(features)]

    def _turned_and_resized(self, number: int, feature: Tensor) -> Tensor:
        channels, height, width = feature.shape[1:]
        patches = feature.flatten(2).transpose(1, 2)
        if not self.same[number]:
            rows, columns = self.get_buffer(f"rows_{number}"), self.get_buffer(f"columns_{number}")
            patches = columns @ (rows @ patches.reshape(-1, height, width * channels)).reshape(-1, width, channels)
        return patches.reshape(-1, *self.shape, channels)

    def _resize(self, number: int, feature: Tensor) -> Tensor:
        if self.same[number]:
            return feature
        if self.covering[number]:
            corners = False if self.kind == "bilinear" else None
            return F.interpolate(feature, size=self.shape, mode=self.kind, align_corners=corners)
        return self.get_buffer(f"rows_{number}") @ feature @ self.get_buffer(f"columns_{number}").T
