"""The one module that imports torchvision.

torchvision's wheel is linked against CUDA. Beside a CPU-only torch its operators cannot be loaded, and `import
torchvision` dies with "operator torchvision::nms does not exist". Models, feature extraction and transforms need none
of those operators: declaring their schemas is enough.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

from vqi.platform.errors import RunFailed

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@functools.cache
def torchvision() -> ModuleType:
    """torchvision, imported; where its operators cannot be loaded they stay undefined (`ops.nms`, `io` decoding), and
    everything else works.

    Raises RunFailed where it is not installed.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise RunFailed("torchvision is not installed here; install this project with its 'train' extra.")
    if not _operators_load(Path(spec.origin).parent):
        _declare_operators()
    import torchvision

    return torchvision


def _operators_load(package: Path) -> bool:
    import torch

    try:
        for library in (*package.glob("_C*.so"), *package.glob("_C*.pyd")):
            torch.ops.load_library(str(library))
    except OSError:
        return False
    return hasattr(torch.ops.torchvision, "nms")


@functools.cache
def _declare_operators() -> object:
    """Declare the schemas torchvision looks up while it is imported; the library object must live as long as the
    process, so it is cached."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    return library
