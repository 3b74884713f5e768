"""Settings of draem."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from vqi.detectors.settings.fields import Budget, MethodSettings


class DraemSettings(MethodSettings):
    """DRÆM, Zavrtanik et al., arXiv 2108.07610. "The authors' code" is what they published with it."""

    method: ClassVar[str] = "draem"
    detector: ClassVar[str] = "vqi.detectors.draem:Draem"
    summary: ClassVar[str] = "an autoencoder removes simulated anomalies, a second network finds what it removed"
    paper: ClassVar[str] = (
        'Zavrtanik, Kristan & Skocaj, "DRAEM - A discriminatively trained reconstruction embedding for surface '
        'anomaly detection", arXiv 2108.07610'
    )
    budget: ClassVar[Budget] = Budget(batch_size=8, epochs=700)
    extra_images: ClassVar[str] = "textures"
    uses_backbone: ClassVar[bool] = False

    textures: str = Field(
        "",
        description="what simulated anomalies are filled with: a folder, an archive or an s3:// address of pictures; "
        "empty = the normals, strongly changed, and procedural texture",
        json_schema_extra={"source": "paper, section 4.1: the Describable Textures Dataset", "path": True},
    )
    learning_rate: float = Field(
        1e-4, ge=1e-7, le=1.0, description="Adam's, at first", json_schema_extra={"source": "paper, section 4.1"}
    )
    decay: float = Field(
        0.2,
        ge=0.0,
        le=1.0,
        description="what multiplies it at .8 and once more at .9 of the steps",
        json_schema_extra={"source": "the authors' code"},
    )
    anomalous: float = Field(
        0.5,
        ge=0.0,
        le=1.0,
        description="share of the images that get a simulated anomaly",
        json_schema_extra={"source": "the authors' code"},
    )
    opacity: float = Field(
        0.1,
        ge=0.0,
        le=1.0,
        description="the least opacity of a simulated anomaly; the most is 1",
        json_schema_extra={"source": "paper, section 3.3"},
    )
    threshold: float = Field(
        0.5,
        ge=0.0,
        le=0.95,
        description="Perlin noise above it is the anomaly",
        json_schema_extra={"source": "the authors' code"},
    )
    finest: int = Field(
        5,
        ge=0,
        le=6,
        description="the finest Perlin lattice has 2^finest cells an axis, the coarsest 1",
        json_schema_extra={"source": "the authors' code"},
    )
    turned: float = Field(
        0.3,
        ge=0.0,
        le=1.0,
        description="share of the normals that are turned at random",
        json_schema_extra={"source": "the authors' code"},
    )
    turn: float = Field(
        45.0,
        ge=0.0,
        le=180.0,
        description="by up to so many degrees",
        json_schema_extra={"source": "paper, section 4.1"},
    )
    sspcab: bool = Field(
        False,
        description="predict the bottleneck from around a masked centre: SSPCAB, Ristea et al., arXiv 2111.09099",
        json_schema_extra={"source": "the paper has none"},
    )
    sspcab_weight: float = Field(
        0.1, ge=0.0, le=100.0, description="of its loss", json_schema_extra={"source": "arXiv 2111.09099, section 4"}
    )
    reconstructive_width: int = Field(
        128,
        ge=4,
        le=1024,
        description="channels of the autoencoder's first stage",
        json_schema_extra={"source": "the authors' code"},
    )
    discriminative_width: int = Field(
        64,
        ge=4,
        le=1024,
        description="channels of the discriminative network's first stage",
        json_schema_extra={"source": "the authors' code"},
    )
    image_score: Literal["top", "max", "window"] = Field(
        "top",
        description="an image's score: mean of the largest half percent of its map, the map's maximum, "
        "or the largest mean probability of a 21 x 21 window (the paper's), as log-odds",
        json_schema_extra={"source": "ours: no single pixel decides"},
    )
