"""Settings of efficient_ad."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from vqi.detectors.settings.fields import Budget, MethodSettings


class EfficientAdSettings(MethodSettings):
    """EfficientAD, Batzner et al., arXiv 2303.14535."""

    method: ClassVar[str] = "efficient_ad"
    detector: ClassVar[str] = "vqi.detectors.efficient_ad:EfficientAd"
    summary: ClassVar[str] = "a small student of a small teacher, and an autoencoder for what is wrong as a whole"
    paper: ClassVar[str] = (
        'Batzner et al., "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies", arXiv '
        "2303.14535"
    )
    budget: ClassVar[Budget | None] = Budget(batch_size=1, steps=70_000)
    tunes_on_normals: ClassVar[bool] = True
    extra_images: ClassVar[str] = "penalty_images"

    model_size: Literal["small", "medium"] = Field(
        "small",
        description="the patch description networks: EfficientAD-S or -M",
        json_schema_extra={"source": "paper, section 4"},
    )
    channels: int = Field(
        384,
        ge=1,
        le=4096,
        description="numbers that the teacher describes a patch with",
        json_schema_extra={"source": "paper, section 3.1"},
    )
    learning_rate: float = Field(
        1e-4,
        ge=1e-9,
        le=10.0,
        description="learning rate of Adam; a tenth of it for the last 5 % of the steps",
        json_schema_extra={"source": "paper, appendix A"},
    )
    weight_decay: float = Field(
        1e-5, ge=0.0, le=1.0, description="weight decay of Adam", json_schema_extra={"source": "paper, appendix A"}
    )
    hard_share: float = Field(
        1e-3,
        ge=1e-6,
        le=1.0,
        description="share of the largest differences that the student learns from",
        json_schema_extra={"source": "paper, section 3.2"},
    )
    penalty_images: str = Field(
        "",
        description="folder, archive or s3:// of images of anything else, on which the student must not follow the "
        "teacher; '' = no such penalty",
        json_schema_extra={"source": "paper, section 3.2: ImageNet", "path": True},
    )
    teacher: str = Field(
        "",
        description="the teacher: a weights file or s3:// address, as `vqi distill` writes; '' = it is first "
        "distilled from the backbone",
        json_schema_extra={"source": "paper, section 3.1: distilled", "path": True},
    )
    teacher_sha256: str = Field(
        "", description="sha256 of the teacher's file, checked where given", json_schema_extra={"source": "ours"}
    )
    distillation_steps: int = Field(
        10_000,
        ge=1,
        le=10_000_000,
        description="steps of distilling a teacher where none is given (60,000 on ImageNet in the paper), at most "
        "train.max_steps",
        json_schema_extra={"source": "ours: a sixth of the paper's"},
    )
    image_score: Literal["top", "max"] = Field(
        "top",
        description="an image's score from its map: the mean of the top half percent of pixels, or the maximum (the "
        "paper)",
        json_schema_extra={"source": "ours: no single pixel decides"},
    )
