"""The methods by name, and detectors made from plain settings."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from vqi.detectors.backbones import Backbone, create_backbone, no_backbone
from vqi.detectors.interface import Detector
from vqi.detectors.settings import BackboneSettings, parse_settings, settings_class


def detector_class(method: str) -> type[Detector]:
    """The class of `method`, imported when it is asked for. Raises BadInput with a hint where there is none."""
    module, _, name = settings_class(method).detector.partition(":")
    return getattr(import_module(module), name)


def create(
    method: str, settings: dict[str, Any] | Any, backbone: BackboneSettings, input_size: tuple[int, int], seed: int = 0
) -> Detector:
    """A detector with its weights and without an index. `settings`: plain values, parsed strictly, or the method's own
    dataclass.

    Raises BadInput where the method, a setting, the network, a node or the weights cannot be had. A method that reads
    no backbone gets none.
    """
    parsed = parse_settings(method, settings) if isinstance(settings, dict) else settings
    uses = settings_class(method).uses_backbone
    chosen = create_backbone(backbone, detector_class(method).default_layers, seed) if uses else no_backbone()
    return assemble(method, parsed, chosen, input_size, seed)


def assemble(method: str, settings: Any, backbone: Backbone, input_size: tuple[int, int], seed: int) -> Detector:
    """The detector of `method` around a backbone that is there."""
    return detector_class(method)(settings, backbone, input_size, seed).eval()
