"""Which network the features come from."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator
from pydantic.config import JsonDict

from vqi.platform.records import complete
from vqi.platform.settings import Names, Settings, parse_numbers

# Of RGB in [0, 1]: torchvision's transforms for its ImageNet weights.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
THREE: JsonDict = {"shape": "three numbers, such as 0.5,0.5,0.5, or empty"}


def _or_default(default: tuple[float, float, float]) -> BeforeValidator:
    def parse(value: Any) -> Any:
        numbers = parse_numbers(value)
        return default if numbers is None else numbers

    return BeforeValidator(parse)


class BackboneSettings(Settings):
    """Which network the features come from, and the normalisation that its weights were trained with."""

    name: str = Field("resnet18", description="a torchvision model, or filterbank (no weights needed)")
    weights: str = Field("imagenet", description="imagenet, a file, s3://..., or random (tests only)")
    sha256: str = Field(
        "",
        pattern=r"^([0-9a-fA-F]{64})?$",
        description="of the weights file; checked where set",
        json_schema_extra={"shape": "the 64 hexadecimal digits of a SHA-256, or empty"},
    )
    layers: Names = Field((), description="node names; empty = the method's own default")
    mean: Annotated[tuple[float, float, float], _or_default(IMAGENET_MEAN)] = Field(
        IMAGENET_MEAN,
        json_schema_extra=THREE,
        description="of RGB in [0, 1], the normalisation the weights were trained with; empty = ImageNet's",
    )
    std: Annotated[tuple[float, float, float], _or_default(IMAGENET_STD)] = Field(
        IMAGENET_STD, json_schema_extra=THREE, description="likewise"
    )

    @field_validator("std")
    @classmethod
    def _positive(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if not all(math.isfinite(v) and v > 0 for v in value):
            raise ValueError("must be three numbers above 0")
        return value


# A backbone's settings as a part of records: what is missing is never a default.
WholeBackbone = Annotated[BackboneSettings, complete(BackboneSettings)]
