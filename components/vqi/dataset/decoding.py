"""How the files of a set become pixels, as a Dataset and a bundle hold it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

# What becomes of colours where photographs bear profiles (ICC); auto: they stay as they are stored where one and the
# same profile holds for the whole set, else they become sRGB.
ProfileUse = Literal["auto", "convert", "ignore"]


@dataclass(frozen=True)
class Decoding:
    """How files become pixels: decided once for a whole set, and the same in training, prediction and the exported
    bundle.

    `white_level` is the value of white in files with more than 8 bits a channel: scaling each photograph by its own
    maximum would make dark ones bright. `max_pixels` bounds a photograph, since a header may promise any size: 100
    megapixels are more than any camera on a line has, and take 300 MB decoded. `page` is which picture is read of files
    that hold several, from 1. `float_black` and `float_white` are what floating-point values of black and white are,
    None where files of such are refused. `profiles`: whether colours become sRGB where a file bears another profile
    (ICC), as a viewer shows them; earlier versions took them as they are.
    """

    white_level: int = 65535
    max_pixels: int = 100_000_000
    page: int = 1
    float_black: float | None = None
    float_white: float | None = None
    profiles: bool = False

    def to_dict(self) -> dict[str, bool | int | float | None]:
        """As a Dataset and its fingerprint hold it: what later versions added only where it is not its default."""
        values = asdict(self)
        return {name: value for name, value in values.items() if name not in ADDED or value != getattr(DEFAULT, name)}


# What earlier versions did not have; their files are read with the defaults.
ADDED = ("page", "float_black", "float_white", "profiles")


DEFAULT = Decoding()
