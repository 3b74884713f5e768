"""Settings of colour; readable without torch."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from vqi.detectors.settings import MethodSettings


class ColourSettings(MethodSettings):
    """A Gaussian of colour at every position."""

    method: ClassVar[str] = "colour"
    detector: ClassVar[str] = "vqi_colour.detector:Colour"
    summary: ClassVar[str] = "the mean and spread of colour at every position"
    paper: ClassVar[str] = "none; the Mahalanobis distance of one colour to those of good parts"
    # The pixels are its features, so no network is loaded.
    uses_backbone: ClassVar[bool] = False

    cell: int = Field(
        8,
        ge=1,
        le=64,
        description="side of the square cells that a colour is averaged over, pixels",
        json_schema_extra={"source": "ours: chosen for the example"},
    )
    spread: float = Field(
        0.02,
        ge=1e-4,
        le=1.0,
        description="standard deviation added to every colour channel, so that a constant colour has a finite weight",
        json_schema_extra={"source": "ours: chosen for the example"},
    )
    smoothing: float = Field(
        4.0,
        ge=0.0,
        le=64.0,
        description="sigma of the Gaussian that smooths the anomaly map, pixels; 0 = none",
        json_schema_extra={"source": "ours: as PatchCore's"},
    )
