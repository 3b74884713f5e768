"""DFM: Ahuja et al., "Probabilistic Modeling of Deep Features for Out-of-Distribution and Adversarial Detection", arXiv
1909.11786."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from vqi.detectors.backbones import Backbone
from vqi.detectors.features import CommonGrid
from vqi.detectors.interface import Detector
from vqi.detectors.maps import MapUpsampling
from vqi.detectors.settings.dfm import DfmSettings
from vqi.detectors.subspace import Pooling, Subspace


class Dfm(Subspace, Detector):
    """A linear subspace of normal features; an image is as anomalous as what the subspace leaves out of it."""

    default_layers: ClassVar[Mapping[str, tuple[str, ...]]] = {"resnet": ("layer3",)}

    settings: DfmSettings
    backbone: Backbone
    pool_rows: Tensor
    pool_columns: Tensor

    def __init__(self, settings: DfmSettings, backbone: Backbone, input_size: tuple[int, int], seed: int = 0) -> None:
        Detector.__init__(self, settings, backbone, input_size, seed)
        self.common = CommonGrid(backbone.grids(input_size))
        self.embedding_grid = self.common.grid
        self.pooling = Pooling(self.common.grid, settings.pool)
        for name, matrix in (("pool_rows", self.pooling.rows), ("pool_columns", self.pooling.columns)):
            self.register_buffer(name, torch.from_numpy(matrix), persistent=False)
        self.upsample = MapUpsampling(self.map_grid, input_size, settings.smoothing)

    def embed(self, images: Tensor) -> Tensor:
        """The layers' maps on the finest one's grid: float32 [N, 3, H, W] -> float32 [N, C, h, w]."""
        return self.common.concatenated(self.backbone(images).values())
