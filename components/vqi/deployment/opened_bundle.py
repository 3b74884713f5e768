"""One version of a bundle, loaded and tried: what a server and a watch run, and change while they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vqi.deployment.bundle import bundle_version
from vqi.deployment.golden import check_golden
from vqi.deployment.predictor import Predictor
from vqi.platform.errors import BadInput

# A version that was refused may be one that is still being copied: it is tried again, after so many times the pause
# between two looks.
RETRY_REFUSED = 6


@dataclass(frozen=True)
class OpenedBundle:
    """A version and what predicts by it."""

    predictor: Predictor
    version: str


def open_bundle(folder: Path, open_predictor: Callable[[Path], Predictor]) -> OpenedBundle:
    """The bundle in `folder`, opened by `open_predictor`, once it scored its golden photographs as its sidecar says
    (one grey image in a bundle that has none: the first is slow).

    Raises BadInput where it cannot be used or changed meanwhile, GateRefused where it scores otherwise.
    """
    version = bundle_version(folder) if folder.is_dir() else ""
    predictor = open_predictor(folder)
    if not check_golden(folder, predictor.sidecar, predictor.graph):
        height, width = predictor.geometry.input_size
        predictor.graph.run(np.full((1, 3, height, width), 0.5, np.float32))
    if bundle_version(folder) != version:
        raise BadInput(f"The bundle {folder} was replaced while it was loaded; it is tried again.")
    return OpenedBundle(predictor, version)
