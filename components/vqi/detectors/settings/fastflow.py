"""Settings of fastflow."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from vqi.detectors.settings.fields import Budget, MethodSettings


class FastflowSettings(MethodSettings):
    """FastFlow, Yu et al., arXiv 2111.07677."""

    method: ClassVar[str] = "fastflow"
    detector: ClassVar[str] = "vqi.detectors.fastflow:Fastflow"
    summary: ClassVar[str] = "a convolutional flow of each stage's feature map"
    paper: ClassVar[str] = (
        'Yu et al., "FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows", arXiv '
        "2111.07677"
    )
    budget: ClassVar[Budget | None] = Budget(batch_size=32, epochs=500)

    flow_steps: int = Field(
        8, ge=1, le=64, description="coupling blocks of each stage's flow", json_schema_extra={"source": "paper"}
    )
    conv3x3_only: bool = Field(
        False,
        description="3x3 convolutions in every block, instead of 3x3 and 1x1 by turns",
        json_schema_extra={"source": "paper: by turns for CNNs"},
    )
    hidden_ratio: float = Field(
        1.0,
        ge=0.05,
        le=8.0,
        description="channels inside a subnetwork, as a share of those it reads",
        json_schema_extra={"source": "anomalib"},
    )
    clamp: float = Field(
        2.0, ge=0.1, le=10.0, description="bound of a block's log scales", json_schema_extra={"source": "anomalib"}
    )
    learning_rate: float = Field(
        1e-3, ge=1e-7, le=1.0, description="Adam's learning rate", json_schema_extra={"source": "paper"}
    )
    weight_decay: float = Field(
        1e-5, ge=0.0, le=1.0, description="Adam's weight decay", json_schema_extra={"source": "paper"}
    )
    map: Literal["probability", "likelihood"] = Field(
        "probability",
        description="the anomaly map: minus the mean over the stages of each position's probability, or the mean of "
        "its negative log-likelihood",
        json_schema_extra={"source": "paper"},
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
