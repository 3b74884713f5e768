"""The image each step runs in; `VQI_IMAGES` (a registry and path) and `VQI_IMAGE_TAG` are read when packages are compiled."""

from __future__ import annotations

import os
from importlib.metadata import version

# Steps without an image of their own.
SHARED = {"place": "ingest"}


def image(step: str, variant: str = "") -> str:
    """The container image of a step (`variant` "gaudi": on Habana's PyTorch), tagged by version: a mutable tag would be served from KFP's cache."""
    name = SHARED.get(step, step).replace("_", "-") + (f"-{variant}" if variant else "")
    return f"{os.environ.get('VQI_IMAGES', 'vqi')}/{name}:{os.environ.get('VQI_IMAGE_TAG') or version('vqi')}"
