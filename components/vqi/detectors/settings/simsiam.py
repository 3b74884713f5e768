"""Settings of simsiam: DFM's, and those of its training."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from vqi.detectors.settings.dfm import DfmSettings
from vqi.detectors.settings.fields import Budget


class SimsiamSettings(DfmSettings):
    """SimSiam, Chen and He, arXiv 2011.10566, then deep-feature modelling."""

    method: ClassVar[str] = "simsiam"
    detector: ClassVar[str] = "vqi.detectors.simsiam:Simsiam"
    summary: ClassVar[str] = "a backbone fine-tuned to see two views of an image alike, then dfm"
    paper: ClassVar[str] = 'Chen and He, "Exploring Simple Siamese Representation Learning", arXiv 2011.10566'
    budget: ClassVar[Budget] = Budget(batch_size=64, epochs=100)

    learning_rate: float = Field(
        0.05,
        ge=0.0,
        le=10.0,
        description="rate of a batch of 256 images, in proportion to the batch",
        json_schema_extra={"source": "paper, section 3"},
    )
    backbone_rate: float = Field(
        0.002,
        ge=0.0,
        le=10.0,
        description="the backbone's rate as a share of the heads': pretrained weights and few normals bear no more",
        json_schema_extra={"source": "ours: of .002, .02, .1 and 1 on rendered parts; paper: 1"},
    )
    normalisation: Literal["normals", "batch"] = Field(
        "normals",
        description="statistics of the backbone's batch normalisation as it learns: those of the normals throughout, "
        "or each batch's",
        json_schema_extra={"source": "measured on rendered parts; paper: batch"},
    )
    momentum: float = Field(
        0.9,
        ge=0.0,
        le=0.999,
        description="momentum of the gradient descent",
        json_schema_extra={"source": "paper, section 3"},
    )
    weight_decay: float = Field(
        1e-4, ge=0.0, le=1.0, description="decay of the weights", json_schema_extra={"source": "paper, section 3"}
    )
    projection: int = Field(
        2048,
        ge=8,
        le=8192,
        description="width of the projector and of its output",
        json_schema_extra={"source": "paper, section 3; Intel 1000"},
    )
    bottleneck: int = Field(
        512,
        ge=2,
        le=8192,
        description="width inside the predictor",
        json_schema_extra={"source": "paper, section 3; Intel 250"},
    )
    smallest_crop: float = Field(
        0.2,
        ge=0.01,
        le=1.0,
        description="smallest share of the image that a view shows",
        json_schema_extra={"source": "paper, section 3"},
    )
    jitter: float = Field(
        0.1,
        ge=0.0,
        le=1.0,
        description="brightness, contrast and saturation vary by this share",
        json_schema_extra={"source": "Intel; paper .4"},
    )
    hue: float = Field(
        0.1,
        ge=0.0,
        le=0.5,
        description="the hue varies by this share of the circle",
        json_schema_extra={"source": "paper, section 3"},
    )
