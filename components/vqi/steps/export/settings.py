"""What export reads of the configuration."""

from __future__ import annotations

from vqi.category import Category
from vqi.deployment.settings import ExportSettings
from vqi.platform.settings import Settings


class StepSettings(Settings):
    """What the bundle costs is added to the evaluation's MLflow run at `tracking_uri`. `registered_name` is the name
    that the bundle is registered under there, its files belong to the `experiment`; None: it is not registered."""

    export: ExportSettings = ExportSettings()
    tracking_uri: str = ""
    registered_name: str | None = None
    experiment: str | None = None

    @staticmethod
    def of(category: Category) -> StepSettings:
        """The part of `category` that export reads."""
        tracking = category.tracking
        if "yes" not in (tracking.register, category.promote.step):
            return StepSettings(export=category.export, tracking_uri=tracking.uri)
        return StepSettings(
            export=category.export,
            tracking_uri=tracking.uri,
            registered_name=category.name,
            experiment=tracking.experiment,
        )
