"""Settings of padim."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from vqi.detectors.settings.fields import MethodSettings


class PadimSettings(MethodSettings):
    """PaDiM, Defard et al., arXiv 2011.08785."""

    method: ClassVar[str] = "padim"
    positional: ClassVar[bool] = True
    detector: ClassVar[str] = "vqi.detectors.padim:Padim"
    on_engine: ClassVar[str] = "vqi.detectors.gaussians:GaussiansOnEngine"
    summary: ClassVar[str] = "a Gaussian of normal features at every position"
    paper: ClassVar[str] = (
        'Defard et al., "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization", '
        "arXiv 2011.08785"
    )

    channels: int = Field(
        100,
        ge=0,
        le=4096,
        description="channels that all layers' are reduced to (100 for ResNet-18, 550 for WideResNet-50-2 in the "
        "paper); 0 = all",
        json_schema_extra={"source": "paper"},
    )
    reduction: Literal["orthogonal", "pick"] = Field(
        "orthogonal",
        description="how: a random semi-orthogonal projection of all channels (Kim et al., arXiv 2105.14737), or "
        "channels picked at random (the paper)",
        json_schema_extra={"source": "measured: docs/benchmarks.md"},
    )
    resize: Literal["bilinear", "nearest"] = Field(
        "bilinear",
        description="how coarser layers are brought to the finest one's grid; nearest repeats their values",
        json_schema_extra={"source": "measured: above nearest for every seed; the paper repeats"},
    )
    regularisation: float = Field(
        0.01,
        ge=1e-9,
        le=10.0,
        description="added to the diagonal of every covariance",
        json_schema_extra={"source": "paper"},
    )
    smoothing: float = Field(
        4.0,
        ge=0.0,
        le=64.0,
        description="sigma of the Gaussian that smooths the anomaly map, pixels; 0 = none",
        json_schema_extra={"source": "the authors' code"},
    )
