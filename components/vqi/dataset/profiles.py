"""Colour profiles (ICC) that photographs bear: what a viewer shows is sRGB, and so is what a network sees.

LittleCMS converts, by Pillow's ImageCms. Files with more than 8 bits a channel are converted after their values are
scaled to 8.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageCms

from vqi.dataset.decoding import ProfileUse

Colours = Literal["GRAY", "RGB", "CMYK"]
# A profile that moves no colour by more grey levels than this is sRGB by another name: rounding moves some by one.
_SAME = 2
_MODES: dict[Colours, str] = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}


@dataclass(frozen=True, eq=False)
class ColourProfile:
    """A profile by its `name`: how colours of its `space` become sRGB; `transform` is None where they are."""

    space: Colours
    name: str
    transform: ImageCms.ImageCmsTransform | None

    def fits(self, colours: Colours) -> bool:
        """Whether it says what a photograph's colours are; grey is neutral in any RGB."""
        return self.space == colours or (self.space == "RGB" and colours == "GRAY")

    def convert(self, image: Image.Image) -> Image.Image:
        """An image of the space's mode (L, RGB or CMYK) in sRGB, mode RGB."""
        if self.transform is None:
            return image
        out = Image.new("RGB", image.size)
        self.transform.apply(image, out)
        return out


class Profiles:
    """What the photographs of a set say about their colours, added one by one; `count` bear a profile that makes their
    pixels others. `use` is what the settings ask for."""

    def __init__(self, use: ProfileUse = "convert") -> None:
        self.count = 0
        self._use = use
        self._photographs = 0
        self._names: Counter[str] = Counter()
        self._distinct: set[tuple[str, bytes]] = set()
        self._unusable: list[str] = []

    def add(self, path: str, profile: bytes, colours: Colours) -> None:
        """A photograph's profile, b"" where it bears none."""
        self._photographs += 1
        read = colour_profile(profile) if profile else None
        if profile and (read is None or not read.fits(colours)):
            self._unusable.append(path)
        elif read and read.transform:
            self.count += 1
            self._names[read.name] += 1
            self._distinct.add((read.space, hashlib.sha256(profile).digest()))

    @property
    def converts(self) -> bool:
        """Whether colours become sRGB. By `auto` they do not where one profile of grey or RGB holds for the whole set:
        equal values are equal colours as it is."""
        return self._use == "convert" or (self._use == "auto" and not self._is_shared)

    @property
    def _is_shared(self) -> bool:
        """Whether every photograph bears one and the same profile; what CMYK looks like, only a conversion says."""
        return self.count == self._photographs > 0 and len(self._distinct) == 1 and not self._has_cmyk

    @property
    def _has_cmyk(self) -> bool:
        return any(space == "CMYK" for space, _ in self._distinct)

    @property
    def notes(self) -> list[str]:
        """The sentences on photographs that bear another profile than sRGB, or one that cannot be used."""
        notes = []
        if self.count:
            bear = "photograph bears" if self.count == 1 else "photographs bear"
            names = ", ".join(name for name, _ in self._names.most_common(3))
            if self.converts:
                what = "converted, as a viewer does"
            elif self._use == "auto":
                what = (
                    "taken as they are stored, since one profile holds for the whole set (image.profiles=convert makes "
                    "them sRGB)"
                )
            else:
                what = "taken as they are stored (image.profiles)"
            notes.append(f"{self.count} {bear} a colour profile other than sRGB ({names}): colours are {what}.")
        if self._unusable:
            bear = "photograph bears" if len(self._unusable) == 1 else "photographs bear"
            notes.append(
                f"{len(self._unusable)} {bear} a colour profile that is damaged, or of another kind of colours (the "
                f"first is {self._unusable[0]}): their colours are taken as sRGB; save them without it."
            )
        return notes


@lru_cache(maxsize=16)
def colour_profile(profile: bytes) -> ColourProfile | None:
    """The profile of the bytes; None where they are damaged, or not of grey, RGB or CMYK."""
    try:
        read = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = next((space for space in _MODES if space == read.profile.xcolor_space.strip()), None)
        if space is None:
            return None
        mode = _MODES[space]
        transform = ImageCms.buildTransform(
            read, ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.PERCEPTUAL, ImageCms.Flags.NOCACHE
        )
        name = ImageCms.getProfileDescription(read).strip() or "unnamed"
        converting = ColourProfile(space, name, transform)
        samples = _samples(mode)
        moved = np.asarray(converting.convert(samples)).astype(int) - np.asarray(samples.convert("RGB"))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        return None
    if space != "CMYK" and np.abs(moved).max() <= _SAME:
        return ColourProfile(space, name, None)
    return converting


def _samples(mode: str) -> Image.Image:
    """Colours all over the range, as an image."""
    if mode != "RGB":
        return Image.new(mode, (1, 1)) if mode == "CMYK" else Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3))
