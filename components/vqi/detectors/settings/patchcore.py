"""Settings of patchcore."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from vqi.detectors.settings.fields import LeaveOutKind, MethodSettings


class PatchcoreSettings(MethodSettings):
    """PatchCore, Roth et al., arXiv 2106.08265."""

    method: ClassVar[str] = "patchcore"
    detector: ClassVar[str] = "vqi.detectors.patchcore:Patchcore"
    on_engine: ClassVar[str] = "vqi.detectors.memory_bank:BankOnEngine"
    summary: ClassVar[str] = "a memory bank of normal patches"
    paper: ClassVar[str] = 'Roth et al., "Towards Total Recall in Industrial Anomaly Detection", arXiv 2106.08265'
    fits_in_parts: ClassVar[bool] = True

    coreset_ratio: float = Field(
        0.01,
        ge=1e-5,
        le=1.0,
        description="share of the training patches kept in the memory bank",
        json_schema_extra={"source": "paper, section 4.2: 25, 10 and 1 %"},
    )
    max_bank: int = Field(
        100_000,
        ge=1,
        le=10_000_000,
        description="absolute cap on the memory bank, patches",
        json_schema_extra={"source": "ours: a bound on memory and latency"},
    )
    neighbours: int = Field(
        9,
        ge=1,
        le=100,
        description="bank neighbours of the nearest item that reweight the image score; 1 switches reweighting off",
        json_schema_extra={"source": "equation 7; 9 as in anomalib"},
    )
    map_neighbours: int = Field(
        3,
        ge=1,
        le=100,
        description="bank neighbours whose mean distance is a value of the anomaly map; 1 is the paper's",
        json_schema_extra={"source": "measured: see Patchcore.score"},
    )
    projection: int = Field(
        128,
        ge=0,
        le=4096,
        description="dimensions of the random projection that the coreset of longer patches is chosen on (see "
        "WORTH_PROJECTING); 0 = none",
        json_schema_extra={"source": "paper, section 3.2: a random projection"},
    )
    smoothing: float = Field(
        4.0,
        ge=0.0,
        le=64.0,
        description="sigma of the Gaussian that smooths the anomaly map, pixels; 0 = none",
        json_schema_extra={"source": "paper, section 3.3"},
    )
    calibration: LeaveOutKind = Field(
        "pools",
        description="the banks that score normals for the threshold where none are held out: chosen from pools (a "
        "coreset of every fold, a few times its share) | refits, each a coreset of all patches but the fold's",
        json_schema_extra={"source": "ours: see Patchcore.leave_out"},
    )
    max_seconds: float = Field(
        0.0,
        ge=0.0,
        le=1e9,
        description="time budget of all coresets of a build, seconds, those for the threshold included (of refits an "
        "equal share each, of pools one half of it); 0 = none; what is chosen by then is the bank",
        json_schema_extra={"source": "ours"},
    )
