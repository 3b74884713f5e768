"""Settings of fastflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vqi.detectors.settings.fields import Budget, MethodSettings, setting


@dataclass(frozen=True)
class FastflowSettings(MethodSettings):
    """FastFlow, Yu et al., arXiv 2111.07677."""

    method: ClassVar[str] = "fastflow"
    detector: ClassVar[str] = "vqi.detectors.fastflow:Fastflow"
    summary: ClassVar[str] = "a convolutional flow of each stage's feature map"
    paper: ClassVar[str] = 'Yu et al., "FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows", arXiv 2111.07677'
    budget: ClassVar[Budget | None] = Budget(batch_size=32, epochs=500)

    flow_steps: int = setting(8, "coupling blocks of each stage's flow", low=1, high=64, source="paper")
    conv3x3_only: bool = setting(False, "3x3 convolutions in every block, instead of 3x3 and 1x1 by turns", source="paper: by turns for CNNs")
    hidden_ratio: float = setting(1.0, "channels inside a subnetwork, as a share of those it reads", low=0.05, high=8.0, source="anomalib")
    clamp: float = setting(2.0, "bound of a block's log scales", low=0.1, high=10.0, source="anomalib")
    learning_rate: float = setting(1e-3, "Adam's learning rate", low=1e-7, high=1.0, source="paper")
    weight_decay: float = setting(1e-5, "Adam's weight decay", low=0.0, high=1.0, source="paper")
    map: str = setting(
        "probability",
        "the anomaly map: minus the mean over the stages of each position's probability, or the mean of its negative log-likelihood",
        choices=("probability", "likelihood"),
        source="paper",
    )
    image_score: str = setting(
        "top",
        "the image score: mean of the map's largest half percent of pixels, or its maximum (the paper's)",
        choices=("top", "max"),
        source="ours: no single pixel decides",
    )
    smoothing: float = setting(0.0, "sigma of the Gaussian that smooths the anomaly map, pixels; 0 = none", low=0.0, high=64.0, source="paper: none")
