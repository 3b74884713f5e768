"""What check_dataset reads of the configuration."""

from __future__ import annotations

from vqi.category import Category
from vqi.dataset.geometry import Geometry
from vqi.evaluation.settings import ThresholdSettings
from vqi.platform.settings import AutoFraction, Settings


class StepSettings(Settings):
    """Whether the method `trains` and the `calibration_fraction` say what the threshold comes from."""

    geometry: Geometry = Geometry()
    threshold: ThresholdSettings = ThresholdSettings()
    trains: bool = False
    calibration_fraction: AutoFraction = None

    @staticmethod
    def of(category: Category) -> StepSettings:
        """The part of `category` that check_dataset reads."""
        return StepSettings(
            geometry=category.geometry,
            threshold=category.threshold,
            trains=category.trains,
            calibration_fraction=category.data.calibration_fraction,
        )
