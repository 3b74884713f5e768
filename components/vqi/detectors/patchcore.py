"""PatchCore: Roth et al., "Towards Total Recall in Industrial Anomaly Detection", arXiv 2106.08265. Equation numbers
are the paper's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vqi.detectors.backbones import Backbone
from vqi.detectors.features import CommonGrid
from vqi.detectors.interface import Detector
from vqi.detectors.maps import MapUpsampling
from vqi.detectors.memory_bank import MemoryBank
from vqi.detectors.settings.patchcore import PatchcoreSettings


class Patchcore(MemoryBank, Detector):
    """Patches of normal images in a memory bank; a patch is as anomalous as it is far from its nearest item."""

    default_layers: ClassVar[Mapping[str, tuple[str, ...]]] = {"resnet": ("layer2", "layer3")}

    settings: PatchcoreSettings
    backbone: Backbone

    def __init__(
        self, settings: PatchcoreSettings, backbone: Backbone, input_size: tuple[int, int], seed: int = 0
    ) -> None:
        Detector.__init__(self, settings, backbone, input_size, seed)
        self.common = CommonGrid(backbone.grids(input_size))
        self.embedding_grid, self.grid = self.common.grid, self.common.shape
        self.upsample = MapUpsampling(self.common.grid, input_size, settings.smoothing)

    def embed(self, images: Tensor) -> Tensor:
        """Locally aware patch features (eq. 1-3): float32 [N, 3, H, W] -> float32 [N, h, w, C].

        Every layer is averaged over 3 x 3 neighbourhoods; coarser layers are brought to the finest one's grid
        bilinearly; all are concatenated.
        """
        pooled = [
            F.avg_pool2d(feature, kernel_size=3, stride=1, padding=1) for feature in self.backbone(images).values()
        ]
        return torch.cat(self.common.channels_last(pooled), dim=3)
