"""What the threshold promises, and what evaluate writes of each test photograph."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vqi.platform.settings import Settings

Drawn = Literal["some", "all", "wrong", "none"]
Maps = Literal["none", "tiff", "png"]


class ThresholdSettings(Settings):
    """The section `threshold`."""

    false_reject_rate: float = Field(0.01, gt=0, lt=1, description="share of good parts that may be rejected")


class EvaluationSettings(Settings):
    """The section `evaluation`. A cluster copies each file by itself, so that many of them take long."""

    pictures: Drawn = Field(
        "some",
        description="pictures of test photographs: some (up to 100 wrong decisions, and 8 right ones of a type), all, "
        "wrong (of every wrong decision, and of no other), none",
    )
    maps: Maps = Field(
        "none",
        description="anomaly maps of all test photographs at their size: none, tiff (float32), png (16 bit, each with "
        "its range)",
    )
