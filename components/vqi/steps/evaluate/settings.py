"""What evaluate reads of the configuration."""

from __future__ import annotations

from vqi.category import Category
from vqi.evaluation.settings import EvaluationSettings, ThresholdSettings
from vqi.platform.devices import Compute
from vqi.platform.settings import Settings
from vqi.tracking.settings import TrackingSettings


class StepSettings(Settings):
    """Everything else stands in network and index."""

    threshold: ThresholdSettings = ThresholdSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    compute: Compute = Compute()
    tracking: TrackingSettings = TrackingSettings()

    @staticmethod
    def of(category: Category) -> StepSettings:
        """The part of `category` that evaluate reads."""
        return StepSettings(
            threshold=category.threshold,
            evaluation=category.evaluation,
            compute=category.device_compute,
            tracking=category.tracking,
        )
