"""place: what the tasks of a run are given, from its pool and its resources."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from vqi.category import Category
from vqi.placement import CONFIGURABLE, DEVICE_STEPS, StepPlacement
from vqi.platform.logs import logger
from vqi.tracking.runs import tracking_address
from vqi.tracking.server import check_server

log = logger(__name__)


def place(category: Category, images: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The outputs of the step, by name and in the order of its face; and a few words for a person on standard error.

    `images` maps each step that touches the device to its image by variant ("" and "gaudi"). Raises BadInput or
    RunFailed where runs cannot be tracked at the address of the category: some methods meet the tracking server only
    after everything was computed.
    """
    check_server(tracking_address(category.tracking.uri), category.tracking.experiment)
    placements = category.step_placements
    # The steps that touch the device differ only in image and quantities.
    shared = placements["train"]
    outputs: dict[str, Any] = {
        "device": shared.device,
        "node_selector": shared.node_selector,
        "tolerations": list(shared.tolerations),
        "node_affinity": shared.node_affinity,
    }
    for step in DEVICE_STEPS:
        placement = placements[step]
        outputs |= {
            f"{step}_image": images[step][placement.variant],
            f"{step}_accelerator": placement.accelerator,
            f"{step}_accelerators": placement.accelerators,
        }
    for step in CONFIGURABLE:
        placement = placements[step]
        outputs |= {
            f"{step}_cpu_request": placement.cpu_request,
            f"{step}_cpu": placement.cpu,
            f"{step}_memory": placement.memory,
        }
    _report(category, placements)
    return outputs


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
            log.info(
                f"{step}: {nodes} nodes, cpu {placement.cpu}, memory {placement.memory}{extra}",
            )
    elif category.pool != "any" or category.resources:
        device = placements["train"].device
        log.info(
            f"no cluster here: of pool and resources only the device is taken, which is {device}",
        )
