"""Settings of cutpaste: DFM's, and those of its training."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from vqi.detectors.settings.dfm import DfmSettings
from vqi.detectors.settings.fields import Budget


class CutpasteSettings(DfmSettings):
    """CutPaste, Li et al., arXiv 2104.04015, then deep-feature modelling."""

    method: ClassVar[str] = "cutpaste"
    detector: ClassVar[str] = "vqi.detectors.cutpaste:Cutpaste"
    summary: ClassVar[str] = "a backbone fine-tuned to notice pasted patches, then dfm"
    paper: ClassVar[str] = (
        'Li et al., "CutPaste: Self-Supervised Learning for Anomaly Detection and Localization", arXiv 2104.04015'
    )
    # The paper counts views: 32 images are 64, or 96 where there are three classes.
    budget: ClassVar[Budget] = Budget(batch_size=32, epochs=256)

    variant: Literal["normal", "scar", "union", "3way"] = Field(
        "3way",
        description="what is pasted: a patch, a scar, either of them, or each as a class of its own",
        json_schema_extra={"source": "paper, section 2"},
    )
    freeze_epochs: int = Field(
        20,
        ge=0,
        le=1_000_000,
        description="epochs in which the head alone learns, at most half of the budget's",
        json_schema_extra={"source": "Intel"},
    )
    head_layers: int = Field(
        2,
        ge=0,
        le=16,
        description="layers of 512 in the head, before one of 128",
        json_schema_extra={"source": "Intel"},
    )
    learning_rate: float = Field(
        0.03,
        ge=0.0,
        le=10.0,
        description="rate of the gradient descent at its largest",
        json_schema_extra={"source": "paper, appendix A"},
    )
    backbone_rate: float = Field(
        0.02,
        ge=0.0,
        le=10.0,
        description="the backbone's rate as a share of the head's: pretrained weights and few normals bear no more",
        json_schema_extra={"source": "ours: of .02, .1 and 1 on rendered parts; paper: 1"},
    )
    cycles: int = Field(
        1,
        ge=1,
        le=1000,
        description="cosine cycles of the rate over the whole budget",
        json_schema_extra={"source": "paper, appendix A"},
    )
    normalisation: Literal["normals", "batch"] = Field(
        "batch",
        description="statistics of the backbone's batch normalisation as it learns: those of the normals throughout, "
        "or each batch's",
        json_schema_extra={"source": "measured on rendered parts, and the paper's"},
    )
    momentum: float = Field(
        0.9,
        ge=0.0,
        le=0.999,
        description="momentum of the gradient descent",
        json_schema_extra={"source": "paper, appendix A"},
    )
    weight_decay: float = Field(
        3e-5, ge=0.0, le=1.0, description="decay of the weights", json_schema_extra={"source": "paper, appendix A"}
    )
    jitter: float = Field(
        0.1,
        ge=0.0,
        le=0.5,
        description="colours of images and of patches vary by this share",
        json_schema_extra={"source": "paper, section 2.1"},
    )
