"""Settings of cs_flow."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from vqi.detectors.settings.fields import Budget, MethodSettings


class CsFlowSettings(MethodSettings):
    """CS-Flow, Rudolph et al., arXiv 2110.02855."""

    method: ClassVar[str] = "cs_flow"
    detector: ClassVar[str] = "vqi.detectors.cs_flow:CsFlow"
    summary: ClassVar[str] = "one flow across the feature maps of three image sizes"
    paper: ClassVar[str] = (
        'Rudolph et al., "Fully Convolutional Cross-Scale-Flows for Image-based Defect Detection", arXiv 2110.02855; '
        "published with "
        "EfficientNet-B5, node features.6.8, images of 768 x 768"
    )
    budget: ClassVar[Budget | None] = Budget(batch_size=16, epochs=240)

    coupling_blocks: int = Field(
        4,
        ge=1,
        le=32,
        description="cross-scale coupling blocks; the last one's kernels are 5x5, the others' 3x3",
        json_schema_extra={"source": "paper"},
    )
    hidden_channels: int = Field(
        1024, ge=1, le=4096, description="channels inside the subnetworks", json_schema_extra={"source": "paper"}
    )
    clamp: float = Field(
        3.0, ge=0.1, le=10.0, description="bound of a block's log scales", json_schema_extra={"source": "paper"}
    )
    learning_rate: float = Field(
        2e-4, ge=1e-7, le=1.0, description="Adam's learning rate", json_schema_extra={"source": "paper"}
    )
    epsilon: float = Field(
        1e-4, ge=1e-12, le=1.0, description="Adam's epsilon", json_schema_extra={"source": "the authors' code"}
    )
    weight_decay: float = Field(
        1e-5, ge=0.0, le=1.0, description="Adam's weight decay", json_schema_extra={"source": "paper"}
    )
    clip: float = Field(
        1.0,
        ge=0.0,
        le=1e6,
        description="largest norm of the gradient; 0 = unlimited",
        json_schema_extra={"source": "the authors' code"},
    )
    map: Literal["product", "finest"] = Field(
        "product",
        description="the anomaly map: the product of the three scales' maps (anomalib), or that of the finest scale "
        "alone (the authors)",
        json_schema_extra={"source": "anomalib"},
    )
    image_score: Literal["mean", "top", "max"] = Field(
        "mean",
        description="the image score: mean over all positions and scales (the paper's), mean of the map's largest "
        "half percent of pixels, or its maximum",
        json_schema_extra={"source": "paper"},
    )
    smoothing: float = Field(
        0.0,
        ge=0.0,
        le=64.0,
        description="sigma of the Gaussian that smooths the anomaly map, pixels; 0 = none",
        json_schema_extra={"source": "paper: none"},
    )
