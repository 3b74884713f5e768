"""From how many pixels on a found region counts as found whole: MVTec LOCO's saturation thresholds.

Source: P. Bergmann et al., "Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and
Localization", IJCV 130 (2022), section 4.2. A region of area `a` is saturated at `min(s, a)` pixels, where `s` is
absolute, or at `int(s * a)`, where it is a share of the region, as in the evaluation code that the data set comes with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Saturation:
    """The rule of one defect type: masks painted with the grey level `value` are regions of it."""

    name: str
    value: int
    threshold: float
    relative: bool

    def __post_init__(self) -> None:
        largest = 1 if self.relative else 1 << 53
        if not (0 < self.value <= 65535 and 0 < self.threshold <= largest):
            raise ValueError(f"the saturation of {self.name!r} is {self.threshold} at the value {self.value}")

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Saturation:
        """From JSON values. Raises KeyError, TypeError or ValueError where they are not those of a Saturation."""
        threshold, relative = value["threshold"], value["relative"]
        if not isinstance(relative, bool) or isinstance(threshold, bool):
            raise TypeError("a saturation threshold is a number, and relative or not")
        return Saturation(str(value["name"]), int(value["value"]), float(threshold), relative)

    def share(self, area: int) -> float:
        """The share of a region of `area` pixels from which on it counts as found whole, in (0, 1]."""
        pixels = int(self.threshold * area) if self.relative else min(int(self.threshold), area)
        return max(pixels, 1) / area
