"""The steps, called by keyword: tests name the few settings that matter to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vqi.dataset.geometry import Geometry
from vqi.dataset.settings import DataSettings, PixelSettings
from vqi.deployment.settings import ExportSettings
from vqi.detectors.settings import BackboneSettings
from vqi.evaluation.settings import ThresholdSettings
from vqi.platform.devices import Compute
from vqi.tracking.settings import ExperimentSettings, TrackingSettings
from vqi.training.settings import TrainSettings

DATA = tuple(DataSettings.model_fields)
PIXELS = tuple(PixelSettings.model_fields)


def _part(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: values.pop(name) for name in names if name in values}


def ingest(*, name: str, dataset: Path, false_reject_rate: float = 0.01, **values: Any) -> Any:
    """`values` are those of DataSettings and PixelSettings, `seed`, `trains`, `report`, `checked` and `described`."""
    from vqi.steps.ingest.settings import StepSettings
    from vqi.steps.ingest.step import ingest as run

    reported = _part(values, ("report", "checked", "described"))
    settings = StepSettings(
        name=name,
        data=DataSettings(**_part(values, DATA)),
        pixels=PixelSettings(**_part(values, PIXELS)),
        threshold=ThresholdSettings(false_reject_rate=false_reject_rate),
        **values,
    )
    return run(settings, dataset=dataset, **reported)


def check_dataset(*, dataset: Path, page: Path, verdict: Path, false_reject_rate: float = 0.01, **values: Any) -> Any:
    from vqi.steps.check_dataset.settings import StepSettings
    from vqi.steps.check_dataset.step import check_dataset as run

    reported = _part(values, ("report", "page_uri", "described", "paths"))
    settings = StepSettings(threshold=ThresholdSettings(false_reject_rate=false_reject_rate), **values)
    return run(settings, dataset=dataset, page=page, verdict=verdict, **reported)


def train(
    *,
    dataset: Path,
    network: Path,
    method: str,
    settings: dict[str, Any],
    backbone: BackboneSettings,
    geometry: Geometry,
    compute: Compute,
    seed: int,
    budgets: TrainSettings | None = None,
    calibration_fraction: float | None = None,
    tracking_uri: str = "",
    experiment: str = "vqi",
) -> Any:
    from vqi.steps.train.settings import StepSettings
    from vqi.steps.train.step import train as run

    chosen = StepSettings(
        method=method,
        method_settings=settings,
        backbone=backbone,
        geometry=geometry,
        compute=compute,
        train=budgets or TrainSettings(),
        calibration_fraction=calibration_fraction,
        tracking=ExperimentSettings(uri=tracking_uri, experiment=experiment),
        seed=seed,
    )
    return run(chosen, dataset=Path(dataset), network=Path(network))


def build_index(*, dataset: Path, network: Path, index: Path, compute: Compute) -> None:
    from vqi.steps.build_index.settings import StepSettings
    from vqi.steps.build_index.step import build_index as run

    run(StepSettings(compute=compute), dataset=dataset, network=network, index=index)


def build_index_in_parts(*, dataset: Path, network: Path, index: Path, compute: Compute, shards: int) -> list[Path]:
    """As a DAG of shards does: index_part for each, beside the index, then merge_parts. Returns the parts."""
    from vqi.steps.build_index.settings import PartSettings, StepSettings
    from vqi.steps.build_index.step import build_index as merge
    from vqi.steps.build_index.step import index_part

    settings = StepSettings(compute=compute.model_copy(update={"shards": shards}))
    parts = [index.parent / f"part-{shard}" for shard in range(shards)]
    for shard, part in enumerate(parts):
        index_part(PartSettings(compute=settings.compute, shard=shard), dataset=dataset, network=network, part=part)
    merge(settings, dataset=dataset, network=network, index=index, parts=parts)
    return parts


def evaluate(
    *,
    false_reject_rate: float,
    compute: Compute,
    tracking_uri: str,
    experiment: str = "vqi",
    comparison: str = "",
    **paths: Any,
) -> Any:
    from vqi.steps.evaluate.settings import StepSettings
    from vqi.steps.evaluate.step import evaluate as run

    settings = StepSettings(
        threshold=ThresholdSettings(false_reject_rate=false_reject_rate),
        compute=compute,
        tracking=TrackingSettings(uri=tracking_uri, experiment=experiment, comparison=comparison),
    )
    return run(settings, **paths)


def export(*, tolerance: float, tracking_uri: str = "", **values: Any) -> Any:
    """`values` are `formats`, `int8_max_drop` and the paths."""
    from vqi.steps.export.settings import StepSettings
    from vqi.steps.export.step import export as run

    exports = ExportSettings(tolerance=tolerance, **_part(values, ("formats", "int8_max_drop")))
    return run(StepSettings(export=exports, tracking_uri=tracking_uri), **values)
