"""What is brought in, and how its pixels are read."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, FiniteFloat, field_validator

from vqi.dataset.decoding import DEFAULT, Decoding, ProfileUse
from vqi.dataset.geometry import Geometry
from vqi.platform.settings import AUTO, AutoFraction, AutoNumber, Names, Settings, parse_numbers


class DataSettings(Settings):
    """Where the photographs are and how they are split."""

    source: str = Field("", description="folder, tar or zip file, or s3://bucket/prefix")
    layout: str = Field(
        "auto",
        description="how the source is arranged: auto, or a layout by name, such as mvtec, folders, coco, labelme, "
        "voc, yolo, table, lists",
    )
    mask_suffix: str = Field("_mask", max_length=64, description="what a mask's file name adds to its image's")
    group: str = Field(
        "",
        max_length=200,
        description="regular expression found in the paths of photographs of one part, such as a serial number: what "
        "its first bracket "
        "(or all of it) matches is the part; photographs of one part never stand on both sides of a sample split",
    )
    good: str = Field(
        "",
        max_length=200,
        description="regular expression found in the paths of good photographs, where folders do not say which they "
        "are",
    )
    defect: str = Field(
        "",
        max_length=200,
        description="the same of defective ones; its first bracket is the type of the defect. With one of the two "
        "alone all other photographs are the opposite",
    )
    good_class: str = Field(
        "",
        max_length=64,
        description="the class that is good, where the source has a folder for each class or is of IDX files (MNIST)",
    )
    most_per_class: int = Field(
        0, ge=0, le=1_000_000, description="photographs of each split and defect type that are kept; 0 = all"
    )
    exclude: Names = Field(
        (),
        description="photographs that are left out, and counted: paths, folders or patterns such as "
        "train/good/07*.png, separated by commas; a space in a path is written ?",
    )
    skip_damaged: int = Field(
        0,
        ge=0,
        le=100_000,
        description="damaged photographs (or with a damaged mask) that may be left out, and are named; more stop the "
        "run",
    )
    calibration_fraction: AutoFraction = Field(
        None,
        ge=0,
        le=0.9,
        json_schema_extra=AUTO,
        description="share of normals held out for the threshold; 0 = from k folds of all; auto = 0.2 where that "
        "suffices for the rate asked for, else 0",
    )
    labelled_fraction: AutoFraction = Field(
        None,
        ge=0,
        le=0.9,
        json_schema_extra=AUTO,
        description="share of the test images that supervised methods learn from instead; auto = 0.8 for these, else 0",
    )

    @field_validator("group", "good", "defect")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"must be a regular expression ({error})") from error
        return value


class PixelSettings(Settings):
    """How a file becomes pixels."""

    white_level: AutoNumber = Field(
        None,
        ge=1,
        le=65535,
        json_schema_extra=AUTO,
        description="the value of white in files with more than 8 bits a channel, such as 4095 of a 12-bit camera; "
        "auto = from the normals",
    )
    align: str = Field(
        "",
        max_length=1000,
        description="the reference photograph, a path of the set, or auto (the first normal): parts that lie turned or "
        "shifted are brought into its place before anything looks at them; empty = off",
    )
    align_limit: Annotated[tuple[FiniteFloat, FiniteFloat], BeforeValidator(parse_numbers)] = Field(
        (0.2, 15.0),
        description="the largest shift, as a share of the longer side, and the largest angle, degrees, that parts are "
        "moved by",
        json_schema_extra={"shape": "two numbers, a share of the longer side and degrees, such as 0.2,15"},
    )
    range: Annotated[tuple[FiniteFloat, FiniteFloat] | None, BeforeValidator(parse_numbers)] = Field(
        None,
        description="the values of black and white in files of floating-point values, one pair for the whole set; "
        "such files are refused without",
        json_schema_extra={"shape": "two numbers, the values of black and of white, such as 0,1, or empty"},
    )
    profiles: ProfileUse = Field(
        "auto",
        description="what becomes of colours where a file bears a profile (ICC) other than sRGB: converted, as a "
        "viewer shows them, or (ignore) taken as they are stored, as anomalib does; auto = as they are stored where "
        "every photograph of the set bears one and the same profile, else converted",
    )
    page: int = Field(
        1, ge=1, le=100_000, description="which page is read of a TIFF with several, or frame of an animation, from 1"
    )
    max_megapixels: int = Field(
        100, ge=1, le=10_000, description="a larger photograph is refused: a header may promise any size"
    )

    @field_validator("align_limit")
    @classmethod
    def _check_align_limit(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not (0 <= value[0] <= 0.5 and 0 <= value[1] <= 180):
            raise ValueError("must be a share from 0 to 0.5 and an angle from 0 to 180")
        return value

    @field_validator("range")
    @classmethod
    def _check_range(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value and not value[0] < value[1]:
            raise ValueError("must be black and white, with black below white")
        return value

    @property
    def decoding(self) -> Decoding:
        """How a file becomes pixels, white at the end of 16 bits where it is to be found."""
        black, white = self.range or (None, None)
        return Decoding(
            self.white_level or DEFAULT.white_level,
            self.max_megapixels * 1_000_000,
            self.page,
            black,
            white,
            self.profiles != "ignore",
        )


class ImageSettings(PixelSettings, Geometry):
    """The section `image`: how a file becomes pixels, and what the network sees of them."""
