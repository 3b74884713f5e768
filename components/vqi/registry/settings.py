"""When a candidate becomes the champion."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vqi.platform.settings import Answer, Settings

# What a rule holds a difference against: what was measured, or the worse end of its interval.
Evidence = Literal["estimate", "interval"]


class PromoteSettings(Settings):
    """The section `promote`: the rule of `vqi promote`. `min_auroc`, `min_recall` and `max_false_rejects` hold for
    every champion, the others where one stands already."""

    step: Answer = Field(
        "no", description="whether a run ends with the step promote (the pipeline train-category-promote)"
    )
    min_auroc: float = Field(0.8, ge=0, le=1, description="least image AUROC of a champion on the test photographs")
    min_recall: float = Field(0.5, ge=0, le=1, description="least share of defects that a champion finds")
    max_false_rejects: float = Field(0.2, ge=0, le=1, description="largest share of good parts that a champion rejects")
    max_auroc_loss: float = Field(
        0.01, ge=0, le=1, description="by how much image AUROC may be below the champion's on the same photographs"
    )
    max_recall_loss: float = Field(
        0.02, ge=0, le=1, description="by how much the share of defects found may be below the champion's"
    )
    max_false_rejects_gain: float = Field(
        0.02, ge=0, le=1, description="by how much the share of good parts rejected may be above the champion's"
    )
    max_latency_ratio: float = Field(
        1.5, gt=0, description="largest processor time of a photograph, as a multiple of the champion's"
    )
    max_size_ratio: float = Field(2.0, gt=0, description="largest size of the bundle, as a multiple of the champion's")
    evidence: Evidence = Field(
        "estimate",
        description="what the three differences are held against: estimate (as measured), or interval (the worse end "
        "of the 95 % interval of the paired bootstrap: nothing is promoted that is not shown to be as good)",
    )
