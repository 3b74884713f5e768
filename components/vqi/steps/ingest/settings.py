"""What ingest reads of the configuration."""

from __future__ import annotations

from pydantic import Field

from vqi.category import Category
from vqi.dataset.settings import DataSettings, PixelSettings
from vqi.evaluation.settings import ThresholdSettings
from vqi.platform.settings import Settings


class StepSettings(Settings):
    """`data.labelled_fraction` is resolved. Whether the method `trains` and the false-reject rate say how many normals
    are held out. `listing` is the fingerprint of what the source lists: with another one KFP's cache is not asked."""

    name: str
    data: DataSettings
    pixels: PixelSettings = PixelSettings()
    threshold: ThresholdSettings = ThresholdSettings()
    seed: int = 0
    trains: bool = False
    listing: str = Field("", description="fingerprint of what the source lists")

    @staticmethod
    def of(category: Category, listing: str = "") -> StepSettings:
        """The part of `category` that ingest reads."""
        return StepSettings(
            name=category.name,
            data=category.data.model_copy(update={"labelled_fraction": category.resolved_labelled_fraction}),
            pixels=category.pixels,
            threshold=category.threshold,
            seed=category.seed,
            trains=category.trains,
            listing=listing,
        )
