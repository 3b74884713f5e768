"""The image each step runs in; `VQI_IMAGES` (a registry and path) and `VQI_IMAGE_TAG` are read when packages are compiled."""

from __future__ import annotations

import os
from importlib.metadata import version


def image(step: str) -> str:
    """The container image of a step, tagged by version: a mutable tag would be served from KFP's cache after it moved."""
    return f"{os.environ.get('VQI_IMAGES', 'vqi')}/{step.replace('_', '-')}:{os.environ.get('VQI_IMAGE_TAG') or version('vqi')}"
