"""configure: the whole form checked, and what each step of a run reads and gets in a cluster."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from vqi.category import Category, check_texts
from vqi.dataset.sources import source_fingerprint
from vqi.placement import (
    COMPACT_STEPS,
    CONFIGURABLE,
    DEVICE_STEPS,
    StepPlacement,
    composite_placements,
    placement_fields,
)
from vqi.platform.errors import BadInput
from vqi.platform.logs import logger
from vqi.platform.settings import Settings
from vqi.steps.fingerprints import inputs_fingerprint
from vqi.tracking.runs import tracking_address
from vqi.tracking.server import check_server

log = logger(__name__)


def configure(parameters: Mapping[str, Any], images: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The outputs of the step, by name and in the order of its face; and a few words for a person on standard error.

    `parameters` are those of the run, `images` maps each step that touches the device to its image by variant ("" and
    "gaudi"). The source is listed, so that ingest comes from KFP's cache where nothing changed and never where
    something did. Raises BadInput for a parameter that is wrong, a source or weights that are not there, and BadInput
    or RunFailed where runs cannot be tracked at the address of the category: some methods meet the tracking server only
    after everything was computed.
    """
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        check_texts(parameters)
    category = Category.from_parameters(parameters)
    if not category.data.source:
        raise BadInput("data_source is empty; name an s3://bucket/prefix, a folder or an archive.")
    address = tracking_address(category.tracking.uri)
    check_server(address, category.tracking.experiment)
    if not address and "yes" in (category.tracking.register, category.promote.step):
        raise BadInput(
            "tracking.register and promote.step need an MLflow, whose registry keeps the bundle; set tracking.uri, or "
            "leave both at no."
        )
    placements = category.step_placements
    # The steps that touch the device differ only in image and quantities.
    shared = placements["train"]
    outputs: dict[str, Any] = {f"{step}_settings": values for step, values in step_settings(category).items()}
    outputs |= {
        "node_selector": shared.node_selector,
        "tolerations": list(shared.tolerations),
        "node_affinity": shared.node_affinity,
    }
    for step in CONFIGURABLE:
        outputs[f"{step}_placement"] = placement_fields(step, placements[step], images)
    # Each is the settings of a task, and a loop goes through them.
    outputs["shards"] = part_settings(category)
    for composite, placement in composite_placements(placements, COMPACT_STEPS).items():
        outputs[f"{composite}_placement"] = placement_fields(composite, placement, images)
    _report(category, placements)
    return outputs


def part_settings(category: Category) -> list[dict[str, Any]]:
    """What each of the tasks reads that compute the index side by side, as plain values."""
    kind = importlib.import_module("vqi.steps.build_index.settings").PartSettings
    return [settings.model_dump(mode="json") for settings in kind.of_shards(category)]


def step_settings(category: Category) -> dict[str, dict[str, Any]]:
    """What each step after this one reads, by its name, as plain values. None is left out: KFP takes none.

    Every step's folder has its model, `settings.StepSettings`.
    """
    fingerprints = {
        "ingest": {"listing": source_fingerprint(category.data.source)},
        "train": {"inputs": inputs_fingerprint(category)},
    }
    values: dict[str, dict[str, Any]] = {}
    for step in (*CONFIGURABLE, "promote"):
        model = importlib.import_module(f"vqi.steps.{step}.settings").StepSettings
        settings: Settings = model.of(category, **fingerprints.get(step, {}))
        values[step] = settings.model_dump(mode="json", exclude_none=True)
    return values


def _report(category: Category, placements: Mapping[str, StepPlacement]) -> None:
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        for step in CONFIGURABLE:
            placement = placements[step]
            nodes = (
                placement.node_selector.get("vqi/pool") or "any, rather no Gaudi"
                if step in DEVICE_STEPS
                else "any but Gaudi"
            )
            extra = f", {placement.accelerators} {placement.accelerator}" if placement.accelerator else ""
            log.info(f"{step}: {nodes} nodes, cpu {placement.cpu}, memory {placement.memory}{extra}")
    elif category.pool != "any" or category.resources:
        device = placements["train"].device
        log.info(f"no cluster here: of pool and resources only the device is taken, which is {device}")
