"""The golden photographs of a bundle: what the network saw of a few, and how the detector scored them. Whoever loads a
bundle, elsewhere and later, holds its scores against them before it decides anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vqi.dataset.geometry import to_input
from vqi.deployment.bundle_files import GOLDEN
from vqi.deployment.graph_runtime import GraphRuntime
from vqi.deployment.parity import largest_deviation, reference_of
from vqi.deployment.sidecar import Sidecar
from vqi.platform.errors import BadInput, GateRefused

TENSOR = "images"


def write_golden(folder: Path, images: np.ndarray) -> None:
    """Write the golden photographs, uint8 [n, h, w, 3], into the bundle `folder`."""
    from safetensors.numpy import save_file

    save_file({TENSOR: np.ascontiguousarray(images)}, Path(folder) / GOLDEN)


def check_golden(folder: Path, sidecar: Sidecar, graph: GraphRuntime) -> int:
    """Score the golden photographs of a bundle by `graph` and hold them against its sidecar; how many there are, 0 in
    one that was exported before there were any.

    Raises BadInput where they are damaged, GateRefused where a score deviates by more than the tolerance of the format
    that runs (formula: vqi.deployment.parity).
    """
    if sidecar.golden is None:
        return 0
    entry = sidecar.entry_of(graph.backend)
    expected = np.array(reference_of(entry.precision, sidecar.golden.scores))
    images = read_golden(folder, len(expected), graph.input_size)
    scores = np.concatenate([graph.run(to_input(image[None]))[0] for image in images]).astype(np.float64)
    deviation = largest_deviation(scores, expected, float(np.median(np.abs(expected))))
    if not deviation <= entry.tolerance:
        raise GateRefused(
            f"The bundle {folder} does not score its golden photographs as it did when it was exported: by "
            f"{graph.backend} the largest deviation is {deviation:.2g}, the tolerance {entry.tolerance:g}; use the "
            "versions that its bundle.json names, or export again."
        )
    return len(images)


def read_golden(folder: Path, count: int, size: tuple[int, int]) -> np.ndarray:
    """The golden photographs of a bundle, uint8 [count, h, w, 3]; `size` is (h, w). Raises BadInput where they are
    damaged, or others."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(folder) / GOLDEN
    try:
        images = load_file(path)[TENSOR]
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise BadInput(f"{path} does not hold golden photographs ({type(error).__name__}); export again.") from error
    if images.dtype != np.uint8 or images.shape != (count, *size, 3):
        raise BadInput(f"{path} does not hold the golden photographs that its bundle.json names; export again.")
    return images
