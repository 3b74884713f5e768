"""What export reads of the configuration."""

from __future__ import annotations

from vqi.category import Category
from vqi.deployment.settings import ExportSettings
from vqi.platform.settings import Settings


class StepSettings(Settings):
    """What the bundle costs is added to the evaluation's MLflow run at `tracking_uri`."""

    export: ExportSettings = ExportSettings()
    tracking_uri: str = ""

    @staticmethod
    def of(category: Category) -> StepSettings:
        """The part of `category` that export reads."""
        return StepSettings(export=category.export, tracking_uri=category.tracking.uri)
