"""Putting a detector on the device, and into the precision, that it computes with."""

from __future__ import annotations

from typing import TypeVar

from vqi.detectors.interface import Detector
from vqi.platform.devices import Compute, torch_device
from vqi.platform.logs import logger

log = logger(__name__)

AnyDetector = TypeVar("AnyDetector", bound=Detector)


def to_device(detector: AnyDetector, compute: Compute) -> AnyDetector:
    """Move a detector (network and index) to the device of `compute`, its network in the precision it says; the same
    detector is returned.

    Only the network's forward pass runs in reduced precision (autocast) and channels-last memory, parts named in
    `contiguous` apart; what is scored is float32 always. Where the network has an engine, that runs it on processors,
    in the precision its artefact names; elsewhere torch does.
    """
    import torch

    device = torch_device(compute)
    log.debug(f"{type(detector).__name__} computes on {device} in {compute.precision}, {compute.batch_size} a batch")
    detector.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for part in detector.contiguous:
        getattr(detector, part).to(memory_format=torch.contiguous_format)
    detector.backbone.precision = getattr(torch, compute.precision)
    detector.index = {name: tensor.to(device) for name, tensor in detector.index.items()}
    if detector.engine:
        detector.engine = detector.engine.for_compute(compute) if device.type == "cpu" else None
    return detector
