"""What train reads of the configuration."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from vqi.category import Category
from vqi.dataset.geometry import Geometry
from vqi.detectors.settings import BackboneSettings
from vqi.platform.devices import Compute
from vqi.platform.settings import AutoFraction, Settings
from vqi.tracking.settings import ExperimentSettings
from vqi.training.settings import TrainSettings


class NodeResources(Settings):
    """What each of several nodes gets that train together, as quantities of Kubernetes."""

    cpu_request: str
    cpu: str
    memory: str
    accelerator: str = ""
    accelerators: str = "0"


class StepSettings(Settings):
    """Not the comparison that a run is a trial of: a training is the same in all of them, and comes from the cache.
    `inputs` is the fingerprint of what the addresses of weights and further images list."""

    name: str = Field("category", description="of the category, which its checkpoints are kept below")
    method: str
    method_settings: dict[str, Any]
    backbone: BackboneSettings
    geometry: Geometry
    compute: Compute
    train: TrainSettings = TrainSettings()
    calibration_fraction: AutoFraction = None
    tracking: ExperimentSettings = ExperimentSettings()
    seed: int = 0
    inputs: str = Field("", description="fingerprint of what weights and further images list")
    node: NodeResources | None = Field(None, description="what each of train.nodes gets where they are several")

    @staticmethod
    def of(category: Category, inputs: str = "") -> StepSettings:
        """The part of `category` that train reads."""
        return StepSettings(
            name=category.name,
            method=category.method.name,
            method_settings=category.method_settings,
            backbone=category.backbone,
            geometry=category.geometry,
            compute=category.device_compute,
            train=category.training,
            calibration_fraction=category.data.calibration_fraction,
            tracking=ExperimentSettings(uri=category.tracking.uri, experiment=category.tracking.experiment),
            seed=category.seed,
            inputs=inputs,
            node=_node(category) if category.training.nodes > 1 else None,
        )


def _node(category: Category) -> NodeResources:
    placement = category.training_node
    return NodeResources(**{name: getattr(placement, name) for name in NodeResources.model_fields})
