"""Settings of cflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vqi.detectors.settings.fields import Budget, MethodSettings, setting


@dataclass(frozen=True)
class CflowSettings(MethodSettings):
    """CFLOW-AD, Gudovskiy et al., arXiv 2107.12571."""

    method: ClassVar[str] = "cflow"
    detector: ClassVar[str] = "vqi.detectors.cflow:Cflow"
    summary: ClassVar[str] = "a flow of the feature vectors of each scale, given their position"
    paper: ClassVar[str] = (
        'Gudovskiy et al., "CFLOW-AD: Real-Time Unsupervised Anomaly Detection with Localization via Conditional Normalizing Flows", arXiv 2107.12571'
    )
    budget: ClassVar[Budget | None] = Budget(batch_size=32, epochs=100)

    condition: int = setting(128, "length of the position encoding, a multiple of 4", low=4, high=1024, source="paper")
    coupling_blocks: int = setting(8, "coupling blocks of each scale's flow", low=1, high=64, source="paper")
    clamp: float = setting(1.9, "bound of a block's log scales", low=0.1, high=10.0, source="the authors' setting")
    fibre: int = setting(
        64,
        "positions an optimiser step learns from, drawn from a batch of images until none is left",
        low=1,
        high=65536,
        source="anomalib; paper 256",
    )
    learning_rate: float = setting(1e-4, "Adam's learning rate", low=1e-7, high=1.0, source="anomalib; paper: 2e-4")
    image_score: str = setting(
        "top",
        "the image score: mean of the map's largest half percent of pixels, or its maximum (the paper's)",
        choices=("top", "max"),
        source="ours: no single pixel decides",
    )
    smoothing: float = setting(0.0, "sigma of the Gaussian that smooths the anomaly map, pixels; 0 = none", low=0.0, high=64.0, source="paper: none")
