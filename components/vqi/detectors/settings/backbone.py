"""Which network the features come from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BackboneSettings:
    """Which network the features come from.

    `name`: a torchvision model or `filterbank`. `weights`: `imagenet` (torchvision's own download), a file path, an
    `s3://` address, or `random` (seeded; for tests only). `sha256` of the weights file, checked where given. `layers`:
    node names; empty = the method's own default. `mean`, `std`: the normalisation the weights were trained with, of RGB
    in [0, 1].
    """

    name: str = "resnet18"
    weights: str = "imagenet"
    sha256: str = ""
    layers: tuple[str, ...] = ()
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
