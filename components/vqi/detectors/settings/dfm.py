"""Settings of dfm."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from vqi.detectors.settings.fields import MethodSettings


class DfmSettings(MethodSettings):
    """Deep-feature modelling, Ahuja et al., arXiv 1909.11786."""

    method: ClassVar[str] = "dfm"
    detector: ClassVar[str] = "vqi.detectors.dfm:Dfm"
    on_engine: ClassVar[str] = "vqi.detectors.subspace:SubspaceOnEngine"
    summary: ClassVar[str] = "a linear subspace of normal features"
    paper: ClassVar[str] = (
        'Ahuja et al., "Probabilistic Modeling of Deep Features for Out-of-Distribution and Adversarial Detection", '
        "arXiv 1909.11786"
    )

    variance: float = Field(
        0.99,
        ge=0.01,
        le=1.0,
        description="share of the variance the principal components keep",
        json_schema_extra={"source": "Intel; anomalib .97"},
    )
    pool: int = Field(
        2,
        ge=1,
        le=64,
        description="average pooling of the feature map before it is flattened; a grid it does not divide gets "
        "smaller, equal ones",
        json_schema_extra={"source": "Intel; anomalib 4"},
    )
    localisation: Literal["error", "patch"] = Field(
        "error",
        description="the map: error of the image's reconstruction by position, or of each patch in a PCA of patches",
        json_schema_extra={"source": "measured: docs/benchmarks.md"},
    )
    smoothing: float = Field(
        4.0,
        ge=0.0,
        le=64.0,
        description="sigma of the Gaussian that smooths the anomaly map, pixels; 0 = none",
        json_schema_extra={"source": "ours: as PatchCore's"},
    )
