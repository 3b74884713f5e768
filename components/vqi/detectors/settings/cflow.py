"""Settings of cflow."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from vqi.detectors.settings.fields import Budget, MethodSettings


class CflowSettings(MethodSettings):
    """CFLOW-AD, Gudovskiy et al., arXiv 2107.12571."""

    method: ClassVar[str] = "cflow"
    positional: ClassVar[bool] = True
    detector: ClassVar[str] = "vqi.detectors.cflow:Cflow"
    summary: ClassVar[str] = "a flow of the feature vectors of each scale, given their position"
    paper: ClassVar[str] = (
        'Gudovskiy et al., "CFLOW-AD: Real-Time Unsupervised Anomaly Detection with Localization via Conditional '
        'Normalizing Flows", arXiv 2107.12571'
    )
    budget: ClassVar[Budget | None] = Budget(batch_size=32, epochs=100)

    condition: int = Field(
        128,
        ge=4,
        le=1024,
        description="length of the position encoding, a multiple of 4",
        json_schema_extra={"source": "paper"},
    )
    coupling_blocks: int = Field(
        8, ge=1, le=64, description="coupling blocks of each scale's flow", json_schema_extra={"source": "paper"}
    )
    clamp: float = Field(
        1.9,
        ge=0.1,
        le=10.0,
        description="bound of a block's log scales",
        json_schema_extra={"source": "the authors' setting"},
    )
    fibre: int = Field(
        64,
        ge=1,
        le=65536,
        description="positions an optimiser step learns from, drawn from a batch of images until none is left",
        json_schema_extra={"source": "anomalib; paper 256"},
    )
    learning_rate: float = Field(
        1e-4, ge=1e-7, le=1.0, description="Adam's learning rate", json_schema_extra={"source": "anomalib; paper: 2e-4"}
    )
    image_score: Literal["top", "max"] = Field(
        "top",
        description="the image score: mean of the map's largest half percent of pixels, or its maximum (the paper's)",
        json_schema_extra={"source": "ours: no single pixel decides"},
    )
    smoothing: float = Field(
        0.0,
        ge=0.0,
        le=64.0,
        description="sigma of the Gaussian that smooths the anomaly map, pixels; 0 = none",
        json_schema_extra={"source": "paper: none"},
    )
