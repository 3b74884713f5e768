"""Settings of cs_flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vqi.detectors.settings.fields import Budget, MethodSettings, setting


@dataclass(frozen=True)
class CsFlowSettings(MethodSettings):
    """CS-Flow, Rudolph et al., arXiv 2110.02855."""

    method: ClassVar[str] = "cs_flow"
    detector: ClassVar[str] = "vqi.detectors.cs_flow:CsFlow"
    summary: ClassVar[str] = "one flow across the feature maps of three image sizes"
    paper: ClassVar[str] = (
        'Rudolph et al., "Fully Convolutional Cross-Scale-Flows for Image-based Defect Detection", arXiv 2110.02855; published with '
        "EfficientNet-B5, node features.6.8, images of 768 x 768"
    )
    budget: ClassVar[Budget | None] = Budget(batch_size=16, epochs=240)

    coupling_blocks: int = setting(4, "cross-scale coupling blocks; the last one's kernels are 5x5, the others' 3x3", low=1, high=32, source="paper")
    hidden_channels: int = setting(1024, "channels inside the subnetworks", low=1, high=4096, source="paper")
    clamp: float = setting(3.0, "bound of a block's log scales", low=0.1, high=10.0, source="paper")
    learning_rate: float = setting(2e-4, "Adam's learning rate", low=1e-7, high=1.0, source="paper")
    epsilon: float = setting(1e-4, "Adam's epsilon", low=1e-12, high=1.0, source="the authors' code")
    weight_decay: float = setting(1e-5, "Adam's weight decay", low=0.0, high=1.0, source="paper")
    clip: float = setting(1.0, "largest norm of the gradient; 0 = unlimited", low=0.0, high=1e6, source="the authors' code")
    map: str = setting(
        "product",
        "the anomaly map: the product of the three scales' maps (anomalib), or that of the finest scale alone (the authors)",
        choices=("product", "finest"),
        source="anomalib",
    )
    image_score: str = setting(
        "mean",
        "the image score: mean over all positions and scales (the paper's), mean of the map's largest half percent of pixels, or its maximum",
        choices=("mean", "top", "max"),
        source="paper",
    )
    smoothing: float = setting(0.0, "sigma of the Gaussian that smooths the anomaly map, pixels; 0 = none", low=0.0, high=64.0, source="paper: none")
