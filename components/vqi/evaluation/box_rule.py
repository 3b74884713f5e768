"""Which regions of an anomaly map are marked and boxed: one rule a detector, recorded in its results and in its bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class BoxRule:
    """`fraction` None: every connected region above the pixel threshold. Else: of an image judged defective, every connected region above that
    fraction of its map's maximum; for maps that say where a classifier looked, whose height means little from one image to the next.
    """

    fraction: float | None = None

    @staticmethod
    def of_method(settings: Mapping[str, Any]) -> BoxRule:
        """The rule of a method: its setting `box_fraction` where it has one."""
        return BoxRule(settings.get("box_fraction"))

    def level(self, values: np.ndarray, decision: str, pixel_threshold: float | None) -> float:
        """The value that a map's marked regions lie above, infinite where nothing is to be marked: a good part, a map without a positive value, or
        (without a fraction) no pixel threshold.
        """
        if self.fraction is None:
            return math.inf if pixel_threshold is None else pixel_threshold
        highest = float(np.nanmax(values))
        return self.fraction * highest if decision == "defect" and highest > 0 else math.inf

    @property
    def sentence(self) -> str:
        if self.fraction is None:
            return "Boxes are drawn around every connected region of the map above the pixel threshold."
        where = f"around every connected region of the map above {self.fraction:.0%} of its maximum"
        return f"Boxes are drawn on photographs judged defective alone, {where}."

    def to_dict(self) -> dict[str, Any]:
        return {"rule": "threshold" if self.fraction is None else "fraction", **asdict(self)}
