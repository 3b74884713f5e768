"""Settings of patchcore."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vqi.detectors.settings.fields import MethodSettings, setting


@dataclass(frozen=True)
class PatchcoreSettings(MethodSettings):
    """PatchCore, Roth et al., arXiv 2106.08265."""

    method: ClassVar[str] = "patchcore"
    detector: ClassVar[str] = "vqi.detectors.patchcore:Patchcore"
    summary: ClassVar[str] = "a memory bank of normal patches"
    paper: ClassVar[str] = 'Roth et al., "Towards Total Recall in Industrial Anomaly Detection", arXiv 2106.08265'

    coreset_ratio: float = setting(
        0.01, "share of the training patches kept in the memory bank", low=1e-5, high=1.0, source="paper, section 4.2: 25, 10 and 1 %"
    )
    max_bank: int = setting(100_000, "absolute cap on the memory bank, patches", low=1, high=10_000_000, source="ours: a bound on memory and latency")
    neighbours: int = setting(
        9,
        "bank neighbours of the nearest item that reweight the image score; 1 switches reweighting off",
        low=1,
        high=100,
        source="equation 7; 9 as in anomalib",
    )
    map_neighbours: int = setting(
        3,
        "bank neighbours whose mean distance is a value of the anomaly map; 1 is the paper's",
        low=1,
        high=100,
        source="measured: see Patchcore.score",
    )
    projection: int = setting(
        128,
        "dimensions of the random projection that the coreset of longer patches is chosen on (see WORTH_PROJECTING); 0 = none",
        low=0,
        high=4096,
        source="paper, section 3.2: a random projection",
    )
    smoothing: float = setting(
        4.0, "sigma of the Gaussian that smooths the anomaly map, pixels; 0 = none", low=0.0, high=64.0, source="paper, section 3.3"
    )
    max_seconds: float = setting(
        0.0,
        "time budget of all coresets of a build, seconds, those of refits for the threshold included, an equal "
        "share each; 0 = none; what is chosen by then is the bank",
        low=0.0,
        high=1e9,
        source="ours",
    )
