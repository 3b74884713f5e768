"""What promote reads of the configuration."""

from __future__ import annotations

from vqi.category import Category
from vqi.platform.settings import Settings
from vqi.registry.settings import PromoteSettings
from vqi.tracking.settings import ExperimentSettings


class StepSettings(Settings):
    """`name` is that of the registered model."""

    name: str
    promote: PromoteSettings = PromoteSettings()
    tracking: ExperimentSettings = ExperimentSettings()
    seed: int = 0

    @staticmethod
    def of(category: Category) -> StepSettings:
        """The part of `category` that promote reads."""
        tracking = ExperimentSettings(uri=category.tracking.uri, experiment=category.tracking.experiment)
        return StepSettings(name=category.name, promote=category.promote, tracking=tracking, seed=category.seed)
