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
        return StepSettings(compute=category.index_compute)


class PartSettings(StepSettings):
    """What index_part reads: the same, and which of `compute.shards` shards it is to compute."""

    shard: int = 0

    @staticmethod
    def of_shards(category: Category) -> list[PartSettings]:
        """Those of every shard."""
        return [PartSettings(compute=category.index_compute, shard=shard) for shard in range(category.compute.shards)]
