"""Settings of stfpm."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from vqi.detectors.settings.fields import Budget, MethodSettings


class StfpmSettings(MethodSettings):
    """Student-teacher feature pyramid matching, Wang et al., arXiv 2103.04257."""

    method: ClassVar[str] = "stfpm"
    detector: ClassVar[str] = "vqi.detectors.stfpm:Stfpm"
    summary: ClassVar[str] = "a student that matches a pretrained teacher's features on normals, and nowhere else"
    paper: ClassVar[str] = (
        'Wang et al., "Student-Teacher Feature Pyramid Matching for Anomaly Detection", arXiv 2103.04257'
    )
    budget: ClassVar[Budget | None] = Budget(batch_size=32, epochs=100)

    learning_rate: float = Field(
        0.4, ge=1e-9, le=100.0, description="learning rate of SGD", json_schema_extra={"source": "paper, section 4"}
    )
    momentum: float = Field(
        0.9, ge=0.0, le=0.9999, description="momentum of SGD", json_schema_extra={"source": "paper, section 4"}
    )
    weight_decay: float = Field(
        1e-4, ge=0.0, le=1.0, description="weight decay of SGD", json_schema_extra={"source": "paper, section 4"}
    )
    image_score: Literal["top", "max"] = Field(
        "top",
        description="an image's score from its map: the mean of the top half percent of pixels, or the maximum (the "
        "paper)",
        json_schema_extra={"source": "ours: no single pixel decides"},
    )
