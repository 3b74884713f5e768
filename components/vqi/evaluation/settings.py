"""What the threshold promises."""

from __future__ import annotations

from pydantic import Field

from vqi.platform.settings import Settings


class ThresholdSettings(Settings):
    """The section `threshold`."""

    false_reject_rate: float = Field(0.01, gt=0, lt=1, description="share of good parts that may be rejected")
