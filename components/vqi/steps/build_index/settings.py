"""What build_index reads of the configuration."""

from __future__ import annotations

from vqi.category import Category
from vqi.platform.devices import Compute
from vqi.platform.settings import Settings


class StepSettings(Settings):
    """Everything else stands in the network."""

    compute: Compute = Compute()

    @staticmethod
    def of(category: Category) -> StepSettings:
        """The part of `category` that build_index reads."""
        return StepSettings(compute=category.device_compute)
