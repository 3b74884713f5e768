"""Settings of dfm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vqi.detectors.settings.fields import MethodSettings, setting


@dataclass(frozen=True)
class DfmSettings(MethodSettings):
    """Deep-feature modelling, Ahuja et al., arXiv 1909.11786."""

    method: ClassVar[str] = "dfm"
    detector: ClassVar[str] = "vqi.detectors.dfm:Dfm"
    summary: ClassVar[str] = "a linear subspace of normal features"
    paper: ClassVar[str] = (
        'Ahuja et al., "Probabilistic Modeling of Deep Features for Out-of-Distribution and Adversarial Detection", arXiv 1909.11786'
    )

    variance: float = setting(0.99, "share of the variance the principal components keep", low=0.01, high=1.0, source="Intel; anomalib .97")
    pool: int = setting(
        2,
        "average pooling of the feature map before it is flattened; a grid it does not divide gets smaller, equal ones",
        low=1,
        high=64,
        source="Intel; anomalib 4",
    )
    localisation: str = setting(
        "error",
        "the map: error of the image's reconstruction by position, or of each patch in a PCA of patches",
        choices=("error", "patch"),
        source="measured: docs/benchmarks.md",
    )
    smoothing: float = setting(
        4.0, "sigma of the Gaussian that smooths the anomaly map, pixels; 0 = none", low=0.0, high=64.0, source="ours: as PatchCore's"
    )
