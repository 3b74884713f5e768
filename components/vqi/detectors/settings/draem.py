"""Settings of draem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vqi.detectors.settings.fields import Budget, MethodSettings, setting


@dataclass(frozen=True)
class DraemSettings(MethodSettings):
    """DRÆM, Zavrtanik et al., arXiv 2108.07610. "The authors' code" is what they published with it."""

    method: ClassVar[str] = "draem"
    detector: ClassVar[str] = "vqi.detectors.draem:Draem"
    summary: ClassVar[str] = "an autoencoder removes simulated anomalies, a second network finds what it removed"
    paper: ClassVar[str] = (
        'Zavrtanik, Kristan & Skocaj, "DRAEM - A discriminatively trained reconstruction embedding for surface anomaly detection", arXiv 2108.07610'
    )
    budget: ClassVar[Budget] = Budget(batch_size=8, epochs=700)
    extra_images: ClassVar[str] = "textures"
    uses_backbone: ClassVar[bool] = False

    textures: str = setting(
        "",
        "what simulated anomalies are filled with: a folder, an archive or an s3:// address of pictures; "
        "empty = the normals, strongly changed, and procedural texture",
        source="paper, section 4.1: the Describable Textures Dataset",
        path=True,
    )
    learning_rate: float = setting(1e-4, "Adam's, at first", low=1e-7, high=1.0, source="paper, section 4.1")
    decay: float = setting(0.2, "what multiplies it at .8 and once more at .9 of the steps", low=0.0, high=1.0, source="the authors' code")
    anomalous: float = setting(0.5, "share of the images that get a simulated anomaly", low=0.0, high=1.0, source="the authors' code")
    opacity: float = setting(0.1, "the least opacity of a simulated anomaly; the most is 1", low=0.0, high=1.0, source="paper, section 3.3")
    threshold: float = setting(0.5, "Perlin noise above it is the anomaly", low=0.0, high=0.95, source="the authors' code")
    finest: int = setting(5, "the finest Perlin lattice has 2^finest cells an axis, the coarsest 1", low=0, high=6, source="the authors' code")
    turned: float = setting(0.3, "share of the normals that are turned at random", low=0.0, high=1.0, source="the authors' code")
    turn: float = setting(45.0, "by up to so many degrees", low=0.0, high=180.0, source="paper, section 4.1")
    sspcab: bool = setting(
        False, "predict the bottleneck from around a masked centre: SSPCAB, Ristea et al., arXiv 2111.09099", source="the paper has none"
    )
    sspcab_weight: float = setting(0.1, "of its loss", low=0.0, high=100.0, source="arXiv 2111.09099, section 4")
    reconstructive_width: int = setting(128, "channels of the autoencoder's first stage", low=4, high=1024, source="the authors' code")
    discriminative_width: int = setting(64, "channels of the discriminative network's first stage", low=4, high=1024, source="the authors' code")
    image_score: str = setting(
        "top",
        "an image's score: mean of the largest half percent of its map, the map's maximum, "
        "or the largest mean probability of a 21 x 21 window (the paper's), as log-odds",
        choices=("top", "max", "window"),
        source="ours: no single pixel decides",
    )
