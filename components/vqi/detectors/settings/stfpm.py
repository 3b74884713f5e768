"""Settings of stfpm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vqi.detectors.settings.fields import Budget, MethodSettings, setting


@dataclass(frozen=True)
class StfpmSettings(MethodSettings):
    """Student-teacher feature pyramid matching, Wang et al., arXiv 2103.04257."""

    method: ClassVar[str] = "stfpm"
    detector: ClassVar[str] = "vqi.detectors.stfpm:Stfpm"
    summary: ClassVar[str] = "a student that matches a pretrained teacher's features on normals, and nowhere else"
    paper: ClassVar[str] = 'Wang et al., "Student-Teacher Feature Pyramid Matching for Anomaly Detection", arXiv 2103.04257'
    budget: ClassVar[Budget | None] = Budget(batch_size=32, epochs=100)

    learning_rate: float = setting(0.4, "learning rate of SGD", low=1e-9, high=100.0, source="paper, section 4")
    momentum: float = setting(0.9, "momentum of SGD", low=0.0, high=0.9999, source="paper, section 4")
    weight_decay: float = setting(1e-4, "weight decay of SGD", low=0.0, high=1.0, source="paper, section 4")
    image_score: str = setting(
        "top",
        "an image's score from its map: the mean of the top half percent of pixels, or the maximum (the paper)",
        choices=("top", "max"),
        source="ours: no single pixel decides",
    )
