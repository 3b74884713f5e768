"""Which regions of an anomaly map are marked and boxed: one rule a detector, recorded in its results and in its
bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from vqi.platform.records import Record

# Of the way from a map's median to its maximum: what is marked of a map that stays below the pixel threshold although
# its image is a defect.
HIGHEST = 0.8


class Boxes(Record):
    """The rule as results and bundles hold it: regions of a map are boxed above the pixel threshold, or, of a defect,
    above a fraction of its map's maximum."""

    rule: Literal["threshold", "fraction"] = "threshold"
    fraction: float | None = Field(None, gt=0, lt=1)

    @model_validator(mode="after")
    def _whole(self) -> Boxes:
        if (self.rule == "fraction") != (self.fraction is not None):
            raise ValueError("the rule 'fraction' has a fraction, and 'threshold' none")
        return self


@dataclass(frozen=True)
class BoxRule:
    """`fraction` None: every connected region above the pixel threshold. Else: of an image judged defective, every
    connected region above that fraction of its map's maximum; for maps that say where a classifier looked, whose height
    means little from one image to the next.

    The image score decides, and the map may disagree: they are two statistics with a threshold each (dfm's score is the
    residual of the whole photograph, its map that of every patch; patchcore's score is reweighted). Without a fraction,
    an image judged defective whose map stays below the pixel threshold has its highest regions marked all the same: a
    decision nobody can see the reason of is of little use. The score of such a box lies below the pixel threshold,
    which tells it from the others.
    """

    fraction: float | None = None

    @staticmethod
    def of_method(settings: Mapping[str, Any]) -> BoxRule:
        """The rule of a method: its setting `box_fraction` where it has one."""
        return BoxRule(settings.get("box_fraction"))

    def level(self, values: np.ndarray, decision: str, pixel_threshold: float | None) -> float:
        """The value that the marked regions of a map, [H, W] in the geometry in which they are marked, lie above.

        Infinite where nothing is to be marked: with a fraction a good part, or a map without a positive value; without
        one no pixel threshold.
        """
        if self.fraction is None and pixel_threshold is None:
            return math.inf
        highest = float(np.nanmax(values))
        if self.fraction is not None:
            return self.fraction * highest if decision == "defect" and highest > 0 else math.inf
        assert pixel_threshold is not None
        if decision != "defect" or highest > np.float32(pixel_threshold):
            return pixel_threshold
        middle = float(np.nanmedian(values))
        # Maps are float32, and are compared as such: the level must lie below the maximum after rounding too.
        return min(middle + HIGHEST * (highest - middle), float(np.nextafter(np.float32(highest), np.float32(-np.inf))))

    @property
    def marks_good(self) -> bool:
        """Whether regions are marked on parts judged good too."""
        return self.fraction is None

    @property
    def sentence(self) -> str:
        if self.fraction is None:
            return (
                "Boxes are drawn around every connected region of the map above the pixel threshold; where a "
                "photograph is judged defective and "
                "its map stays below it, around the highest regions."
            )
        where = f"around every connected region of the map above {self.fraction:.0%} of its maximum"
        return (
            f"Boxes are drawn on photographs judged defective alone, {where}; a map without a positive value has none."
        )

    @property
    def boxes(self) -> Boxes:
        """As results and bundles hold it."""
        return Boxes(rule="threshold" if self.fraction is None else "fraction", fraction=self.fraction)
