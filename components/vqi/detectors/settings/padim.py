"""Settings of padim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vqi.detectors.settings.fields import MethodSettings, setting


@dataclass(frozen=True)
class PadimSettings(MethodSettings):
    """PaDiM, Defard et al., arXiv 2011.08785."""

    method: ClassVar[str] = "padim"
    detector: ClassVar[str] = "vqi.detectors.padim:Padim"
    summary: ClassVar[str] = "a Gaussian of normal features at every position"
    paper: ClassVar[str] = 'Defard et al., "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization", arXiv 2011.08785'

    channels: int = setting(
        100,
        "channels that all layers' are reduced to (100 for ResNet-18, 550 for WideResNet-50-2 in the paper); 0 = all",
        low=0,
        high=4096,
        source="paper",
    )
    reduction: str = setting(
        "orthogonal",
        "how: a random semi-orthogonal projection of all channels (Kim et al., arXiv 2105.14737), or channels picked at random (the paper)",
        choices=("orthogonal", "pick"),
        source="measured: docs/benchmarks.md",
    )
    resize: str = setting(
        "bilinear",
        "how coarser layers are brought to the finest one's grid; nearest repeats their values",
        choices=("bilinear", "nearest"),
        source="measured: above nearest for every seed; the paper repeats",
    )
    regularisation: float = setting(0.01, "added to the diagonal of every covariance", low=1e-9, high=10.0, source="paper")
    smoothing: float = setting(
        4.0, "sigma of the Gaussian that smooths the anomaly map, pixels; 0 = none", low=0.0, high=64.0, source="the authors' code"
    )
