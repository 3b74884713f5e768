"""Photographs, masks and drawings of a source written to shards, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from vqi.dataset.decoding import Decoding, ProfileUse
from vqi.dataset.drawn_masks import DrawnMasks, store_drawn_masks
from vqi.dataset.extents import Extent
from vqi.dataset.images import Header, decode_rgb, read_header
from vqi.dataset.layouts.contents import Contents
from vqi.dataset.layouts.interface import Photograph
from vqi.dataset.layouts.listing import counted, examples
from vqi.dataset.masks import BLACK_BACKGROUND, decode_mask
from vqi.dataset.profiles import Profiles
from vqi.dataset.scaling import RangeUnknown
from vqi.dataset.shards import ShardWriter
from vqi.dataset.white_level import FloatRange, WhiteLevel
from vqi.platform.errors import BadInput
from vqi.platform.progress import tracked


@dataclass(frozen=True)
class Stored:
    """A file that was written to a shard."""

    sha256: str
    extent: Extent
    width: int
    height: int


@dataclass
class Intake:
    """What became of the files: those stored, by path; masks drawn, by the photograph's path; photographs left out as
    damaged, with the reason; what the wide ones and those of floating-point values reach; which bear colour
    profiles."""

    stored: dict[str, Stored] = field(default_factory=dict)
    drawn: dict[str, DrawnMasks] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    white: WhiteLevel = field(default_factory=WhiteLevel)
    floats: FloatRange = field(default_factory=FloatRange)
    profiles: Profiles = field(default_factory=Profiles)


def write_shards(
    photographs: list[Photograph],
    contents: Contents,
    layout: str,
    folder: Path,
    decoding: Decoding,
    find_white: bool,
    profiles: ProfileUse,
    skip_damaged: int,
) -> Intake:
    """Photographs in order, each with its masks after it: files, then what is drawn. `find_white` looks into the
    normals with more than 8 bits a channel, `profiles` is what the settings ask for."""
    intake = Intake(profiles=Profiles(profiles))
    with ShardWriter(folder) as shards:
        for photograph in tracked(photographs, "ingest: photographs"):
            by_path = {photograph.path: contents.of_photograph(photograph)}
            by_path |= {path: contents.of_file(path) for path in photograph.mask_files if path not in intake.stored}
            if skip_damaged and (reason := _damage(photograph, by_path, decoding)):
                intake.damaged[photograph.path] = reason
                continue
            for path, content in by_path.items():
                header = _header(content, path, decoding.page if path == photograph.path else 1)
                intake.stored[path] = Stored(
                    hashlib.sha256(content).hexdigest(), shards.add(path, content), header.width, header.height
                )
                if path == photograph.path:
                    intake.profiles.add(path, header.profile, header.colours)
                    if header.floating:
                        with suppress(BadInput):
                            intake.floats.add(content, path, decoding)
                if find_white and header.wide and path == photograph.path and photograph.is_training_normal:
                    # The dataset check names what cannot be decoded, with everything else that is wrong.
                    with suppress(BadInput):
                        intake.white.add(content, path, header.white, decoding)
            size = intake.stored[photograph.path]
            # The dataset check names a photograph without a readable header, and one that is too large.
            if not 0 < size.width * size.height <= decoding.max_pixels:
                continue
            for mask in (intake.stored[item] for item in photograph.ignore if isinstance(item, str)):
                if (mask.width, mask.height) != (size.width, size.height):
                    raise BadInput(
                        f"The photograph {photograph.path} (layout {layout}) has {size.width} x {size.height} pixels, "
                        f"and a file of regions to ignore {mask.width} x {mask.height}; save it at the photograph's "
                        "size."
                    )
            drawn = store_drawn_masks(photograph, layout, size.width, size.height, shards, contents.unused_path)
            if drawn.masks or drawn.ignore:
                intake.drawn[photograph.path] = drawn
    if len(intake.damaged) > skip_damaged:
        reasons = " ".join(list(intake.damaged.values())[:3])
        raise BadInput(
            f"{counted(len(intake.damaged), 'photograph')} cannot be decoded, more than the {skip_damaged} of "
            "data.skip_damaged "
            f"({examples(list(intake.damaged), 20)}); mend them or take them out. {reasons}"
        )
    return intake


def _damage(photograph: Photograph, contents: Mapping[str, bytes], decoding: Decoding) -> str:
    """Why a photograph or a mask of it cannot be decoded; "" where they can, or are refused for their size, which no
    decoding mends."""
    try:
        for path, content in contents.items():
            header = read_header(content, path, decoding.page if path == photograph.path else 1)
            if header.width * header.height > decoding.max_pixels:
                continue
            if path == photograph.path:
                decode_rgb(content, path, decoding)
            else:
                decode_mask(content, path, BLACK_BACKGROUND)
    except RangeUnknown:
        return ""  # the question is for the whole set
    except BadInput as error:
        return str(error)
    return ""


def left_out_note(damaged: Mapping[str, str], skip_damaged: int) -> str:
    """The note on photographs left out as damaged."""
    if not damaged:
        return ""
    are = "photograph is" if len(damaged) == 1 else "photographs are"
    return f"{len(damaged)} damaged {are} left out, as data.skip_damaged={skip_damaged} allows: {', '.join(damaged)}."


def ignored_note(photographs: Sequence[Photograph]) -> str:
    """The note on regions that are neither defect nor good."""
    paths = [photograph.path for photograph in photographs if photograph.ignore]
    if not paths:
        return ""
    return (
        f"{counted(len(paths), 'photograph')} with regions to ignore ({examples(paths)}): no pixel metric counts what "
        "lies in them, and pictures hatch them."
    )


def _header(content: bytes, path: str, page: int) -> Header:
    """The header, with zeros for the size of what is not a readable image: the dataset check names it with everything
    else that is wrong."""
    try:
        return read_header(content, path, page)
    except BadInput:
        return Header(0, 0, False, None)
