"""What the pixels of defect masks mean: decided once for a whole set, from all of its masks.

A mask of few values is a label picture: whatever is not the background is defect, be it a class index, a grey level, a
class colour or a layer. Masks with soft edges (anti-aliased, blurred, compressed with loss) are cut half way between
the background and what the defects are painted with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from vqi.dataset.images import decoding_errors, is_wide, load_upright, load_wide, odd_tiff_values, open_image
from vqi.platform.errors import BadInput

# Red, green, blue and alpha. Grey v is (v, v, v, 255), of 16 bits as well; what is transparent has no colour.
Value = tuple[int, int, int, int]
BLACK: Value = (0, 0, 0, 255)
TRANSPARENT: Value = (0, 0, 0, 0)

# Black, or nothing at all, is the background by convention: it needs this share of the evidence, where another value
# has more.
_CONVENTION = 0.25
# Soft edges have three levels or more beside the background, two of which at least occur in edges alone; values closer
# together than a range are class indices, however they lie.
_FEWEST_LEVELS, _FEWEST_SOFT_LEVELS, _LEAST_RANGE_OF_A_RAMP = 3, 2, 32
_FLAT_SHARE = 0.2
_MOST_VALUES_OF_A_MASK, _MOST_MASKS_OF_EDGES = 256, 50
_MOST_NAMED = 6


@dataclass(frozen=True)
class MaskMeaning:
    """How the values of a set's masks become defect.

    Without `marks` whatever is not `background` is defect; with them, whatever is nearer to one of them than to the
    background (largest difference of a channel). `by_index` reads palettes by index, not colour; `wide_scaled` scales
    masks with more than 8 bits a channel to 8. `problem` says, in a sentence, why nothing can be said; "" where all is
    well.
    """

    background: Value = BLACK
    marks: tuple[Value, ...] = ()
    by_index: bool = False
    wide_scaled: bool = False
    problem: str = ""

    @staticmethod
    def from_dict(value: dict[str, Any]) -> MaskMeaning:
        """From JSON values. Raises KeyError, TypeError or ValueError where they are not those of a MaskMeaning."""
        marks = tuple(_value_of(mark) for mark in value["marks"])
        by_index, wide_scaled = bool(value["by_index"]), bool(value["wide_scaled"])
        return MaskMeaning(_value_of(value["background"]), marks, by_index, wide_scaled, str(value["problem"]))


BLACK_BACKGROUND = MaskMeaning()


def decode_mask(data: bytes | memoryview, name: str, meaning: MaskMeaning, max_pixels: int | None = None) -> np.ndarray:
    """A defect mask, bool [H, W]: True = defect. Raises BadInput where it is unreadable, truncated or has more than
    `max_pixels` pixels."""
    values = _values(data, name, meaning.by_index, meaning.wide_scaled, max_pixels)
    if meaning.marks:
        to_background = _distance(values, meaning.background)
        return reduce(np.minimum, (_distance(values, mark) for mark in meaning.marks)) < to_background
    red, green, blue, alpha = meaning.background
    if values.dtype == np.uint32:
        return values != _packed(np.array(meaning.background, np.uint8)) if red <= 255 else np.ones(values.shape, bool)
    return values != red if red == green == blue and alpha == 255 else np.ones(values.shape, bool)


def values_met(data: bytes | memoryview, name: str, meaning: MaskMeaning) -> str:
    """The values of a mask in words, the most frequent first. Raises BadInput where it is unreadable."""
    counts = _counted(_values(data, name, meaning.by_index, meaning.wide_scaled, None))
    return _named([value for value, _ in counts.most_common()], meaning)


def painted_level(data: bytes | memoryview, name: str, meaning: MaskMeaning) -> int:
    """The grey level that most of a mask's defect is painted with; 0 where it is a colour, or there is none."""
    counts = _counted(_values(data, name, meaning.by_index, meaning.wide_scaled, None))
    painted = [value for value, _ in counts.most_common() if value != meaning.background]
    red, green, blue, alpha = painted[0] if painted else TRANSPARENT
    return red if red == green == blue and alpha == 255 else 0


def background_name(meaning: MaskMeaning) -> str:
    """The background in words: "0", "(120, 72, 32)", "transparent"."""
    return _name(meaning.background, meaning)


def decide_meaning(
    masks: Sequence[str], read: Callable[[str], bytes], max_pixels: int | None = None
) -> tuple[MaskMeaning, str]:
    """The meaning of a set's masks and the sentence that states it. `masks` are paths, `read` gives a file's content.

    Files that cannot be decoded, or have more than `max_pixels` pixels, decide nothing. Memory is that of one mask.
    """
    by_index, wide_scaled, lossy = _storage(masks, read, max_pixels)
    votes: Counter[Value] = Counter()
    areas: Counter[Value] = Counter()
    varied, total = [], 0
    for path, values in _each(masks, read, by_index, wide_scaled, max_pixels):
        counts = Counter(dict(_counted(values).most_common(_MOST_VALUES_OF_A_MASK)))
        areas.update(counts)
        total += values.size
        if len(counts) > 1:
            # A mask of one value may be all defect or all background.
            border = _counted(np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]]))
            for value in counts:
                share, border_share = counts[value] / counts.total(), border[value] / border.total()
                votes[value] += share / 2 + border_share / 2  # type: ignore[assignment]
        if len(counts) > 2:
            varied.append(path)
    background = _background(votes, areas)
    meaning = MaskMeaning(background, (), by_index, wide_scaled)
    others = [value for value in areas if value != background]
    step = -(-len(varied) // _MOST_MASKS_OF_EDGES) or 1
    if varied and len(others) >= _FEWEST_LEVELS:
        edges = _Edges(background, _near(areas, background))
        for _, values in _each(varied[::step], read, by_index, wide_scaled, max_pixels):
            edges.add(values)
        if lossy or edges.are_ramps:
            meaning = _soft(areas, total, meaning, edges)
    if meaning.problem:
        return meaning, meaning.problem
    if not areas:
        return meaning, ""
    if meaning.marks:
        nearer = f"what is nearer to {_named(meaning.marks, meaning)} than to {_name(background, meaning)} is defect"
        return (
            meaning,
            f"Masks: background is {_name(background, meaning)}; {nearer} ({len(areas)} values: soft edges are cut at "
            "half).",
        )
    are = "is" if len(others) == 1 else "are"
    stated = f"{_named(sorted(others), meaning)} {are} defect" if others else "nothing else occurs"
    return meaning, f"Masks: background is {_name(background, meaning)}; {stated}."


def _storage(masks: Sequence[str], read: Callable[[str], bytes], max_pixels: int | None) -> tuple[bool, bool, bool]:
    """Whether palettes count by index, whether wide masks are scaled to 8 bits, and whether any mask was compressed
    with loss."""
    by_index = lossy = False
    wide_highest, wide_exact, wide_many = 0, True, False
    for path in masks:
        try:
            data = read(path)
            wide = _odd_values(data, path, max_pixels)
            if wide is None:
                with open_image(data, path, max_pixels) as image, decoding_errors(path):
                    lossy |= image.format == "JPEG" or (image.format == "WEBP" and b"VP8 " in data[:4096])
                    if is_wide(image):
                        wide = load_wide(image, data)
                    elif image.mode == "P":
                        upright = load_upright(image, path)
                        # A palette whose colours are all the same, as some tools write it, says that the index is
                        # meant.
                        by_index |= (
                            len(np.unique(np.asarray(upright))) > 1
                            and len(np.unique(_packed(np.asarray(upright.convert("RGBA"))))) == 1
                        )
            if wide is not None and wide.dtype != np.uint8:
                levels = np.unique(wide)
                wide_highest = max(wide_highest, int(levels[-1]))
                wide_exact &= not (levels % 257).any()
                wide_many |= len(levels) > _MOST_VALUES_OF_A_MASK
        except BadInput:
            continue
    return by_index, wide_highest > 255 and (wide_exact or wide_many), lossy


def _each(
    masks: Iterable[str], read: Callable[[str], bytes], by_index: bool, wide_scaled: bool, max_pixels: int | None
) -> Iterator[tuple[str, np.ndarray]]:
    """The paths and values of the masks that can be decoded."""
    for path in masks:
        try:
            yield path, _values(read(path), path, by_index, wide_scaled, max_pixels)
        except BadInput:
            continue


def _values(
    data: bytes | memoryview, name: str, by_index: bool, wide_scaled: bool, max_pixels: int | None
) -> np.ndarray:
    """The values of a mask, [H, W]: grey and indices as uint8 or int32, colours packed into uint32 (`_packed`)."""
    odd = _odd_values(data, name, max_pixels)
    if odd is not None:
        return _of_channels(odd, wide_scaled)
    with open_image(data, name, max_pixels) as image, decoding_errors(name):
        if is_wide(image):
            return _of_channels(load_wide(image, data), wide_scaled)
        upright = load_upright(image, name)
        if upright.mode == "P" and by_index:
            return np.asarray(upright)
        if upright.has_transparency_data:
            values = np.asarray(upright.convert("RGBA"))
            return _colours(values[..., :3], values[..., 3])
        return (
            np.asarray(upright.convert("L"))
            if upright.mode in ("1", "L")
            else _colours(np.asarray(upright.convert("RGB")), None)
        )


def _odd_values(data: bytes | memoryview, name: str, max_pixels: int | None) -> np.ndarray | None:
    """The values of a mask that Pillow does not read (a TIFF of floating-point values, in planes ...), [H, W, C] of
    uint8 or int32; None for every other file. Floating-point values are rounded, so that shares of 0 to 1 are cut at
    half. Raises BadInput for values that are not finite."""
    read = odd_tiff_values(data, name, 1 << 62 if max_pixels is None else max_pixels)
    if read is None:
        return None
    values, header = read
    if header.floating:
        if not np.isfinite(values).all():
            raise BadInput(f"The mask {name} has values that are not finite; save it as 8 bits.")
        return np.rint(values.astype(np.float64).clip(0, 65535)).astype(np.int32)
    return values if header.bits > 8 else values.clip(0, 255).astype(np.uint8)


def _of_channels(values: np.ndarray, wide_scaled: bool) -> np.ndarray:
    """The values of a mask [H, W] from its channels, [H, W, C] of uint8 or int32."""
    if wide_scaled and values.dtype != np.uint8:
        values = (values + 128) // 257
    if values.shape[2] == 1:
        return values[..., 0]
    values = values.clip(0, 255).astype(np.uint8)
    colours = np.repeat(values[..., :1], 3, axis=2) if values.shape[2] == 2 else values[..., :3]
    return _colours(colours, values[..., -1] if values.shape[2] in (2, 4) else None)


def _colours(colours: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """The values of uint8 [H, W, 3] and alpha, uint8 [H, W]: one that is the same everywhere says nothing, others weigh
    the colours."""
    if alpha is None or alpha.min(initial=255) == alpha.max(initial=0) != 0:
        if np.array_equal(colours[..., 0], colours[..., 1]) and np.array_equal(colours[..., 0], colours[..., 2]):
            return np.ascontiguousarray(colours[..., 0])
        return _packed(np.dstack([colours, np.full(colours.shape[:2], 255, np.uint8)]))
    weighed = (colours.astype(np.uint16) * alpha[..., None] + 127) // 255
    return _packed(np.dstack([weighed.astype(np.uint8), alpha]))


def _packed(values: np.ndarray) -> np.ndarray:
    """Red, green, blue and alpha, uint8 [..., 4], as one uint32 a pixel [...]."""
    return np.ascontiguousarray(values).view(np.uint32)[..., 0]


def _channels(values: np.ndarray) -> np.ndarray:
    """Packed colours, uint32 [...], as int32 [..., 4]."""
    return np.ascontiguousarray(values)[..., None].view(np.uint8).astype(np.int32)


def _counted(values: np.ndarray) -> Counter[Value]:
    """How many pixels have each value."""
    if values.dtype == np.uint8:
        every = np.bincount(values.ravel(), minlength=256)
        levels = np.flatnonzero(every)
        counts = every[levels]
    else:
        # Masks are runs of few values: sorting the runs is many times faster than sorting the pixels.
        flat = values.ravel()
        starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        levels, run_levels = np.unique(flat[starts], return_inverse=True)
        counts = np.bincount(run_levels, weights=np.diff(np.append(starts, flat.size)))
    if values.dtype == np.uint32:
        return Counter(
            {_value_of(value): int(count) for value, count in zip(_channels(levels).tolist(), counts, strict=True)}
        )
    return Counter(
        {(level, level, level, 255): int(count) for level, count in zip(levels.tolist(), counts, strict=True)}
    )


def _distance(values: np.ndarray, value: Value) -> np.ndarray:
    """The largest difference of a channel between every pixel and a value: int32 [H, W]."""
    if values.dtype == np.uint32:
        return np.abs(_channels(values) - np.array(value, np.int32)).max(axis=-1)
    differences = [np.abs(values.astype(np.int32) - channel) for channel in sorted(set(value[:3]))]
    return np.maximum.reduce([*differences, np.full(values.shape, 255 - value[3], np.int32)])


def _background(votes: Counter[Value], areas: Counter[Value]) -> Value:
    """The value that masks of several values show most, in area and along their borders; black where nothing speaks for
    another."""
    if not votes:
        return TRANSPARENT if TRANSPARENT in areas and BLACK not in areas else BLACK
    conventional = max((BLACK, TRANSPARENT), key=lambda value: votes[value])
    if votes[conventional] >= _CONVENTION * sum(votes.values()):
        return conventional
    return min(votes, key=lambda value: (-votes[value], value))


class _Edges:
    """Which distances from the background occur in soft edges, and which in flat areas, over masks.

    `near` is the difference below which two distances are one, but for noise.
    """

    def __init__(self, background: Value, near: float) -> None:
        self._background, self._near = background, near
        self._pixels, self._rough, self._flat = np.zeros((3, 65536), np.int64)

    def add(self, values: np.ndarray) -> None:
        distance = _distance(values, self._background).clip(0, 65535)
        window = _shifted(distance)
        lowest, highest = reduce(np.minimum, window), reduce(np.maximum, window)
        # In a soft edge a pixel and its eight neighbours have three levels or more, along the border of a class two.
        rough = reduce(np.logical_or, ((lowest < level) & (level < highest) for level in window))
        flat = reduce(np.maximum, _shifted(highest)) - reduce(np.minimum, _shifted(lowest)) <= self._near / 3
        self._pixels += np.bincount(distance.ravel(), minlength=65536)
        self._rough += np.bincount(distance[rough], minlength=65536)
        self._flat += np.bincount(distance[flat], minlength=65536)

    def is_flat(self, distance: int) -> bool:
        """Whether a good part of the pixels of about that distance lie in areas of one level, five pixels wide or
        more."""
        levels = slice(max(0, round(distance - self._near / 3)), min(65535, round(distance + self._near / 3)) + 1)
        return bool(self._flat[levels].sum() > _FLAT_SHARE * self._pixels[levels].sum())

    @property
    def are_ramps(self) -> bool:
        """Whether there is a range, and most of its levels occur in soft edges (or their ringing) alone."""
        levels = np.flatnonzero(self._pixels)
        soft = np.count_nonzero(2 * self._rough[levels] > self._pixels[levels])
        return bool(levels[-1] >= _LEAST_RANGE_OF_A_RAMP and soft >= max(_FEWEST_SOFT_LEVELS, (len(levels) - 1) / 2))


def _shifted(levels: np.ndarray) -> list[np.ndarray]:
    """An array [H, W] shifted to each of the nine pixels of a neighbourhood, continued beyond its edges."""
    padded = np.pad(levels, 1, mode="edge")
    height, width = levels.shape
    return [padded[row : row + height, column : column + width] for row in range(3) for column in range(3)]


def _near(areas: Counter[Value], background: Value) -> float:
    """The difference below which two values are one, but for noise: an eighth of the range."""
    return max(abs(one - other) for value in areas for one, other in zip(value, background, strict=True)) / 8


def _soft(areas: Counter[Value], total: int, meaning: MaskMeaning, edges: _Edges) -> MaskMeaning:
    """The meaning of masks with soft edges: what the defects are painted with are the peaks of the histogram, or else
    the farthest value.

    `areas` are the pixels of every value that is frequent in a mask, `total` is the number of all pixels.
    """
    values = np.array(list(areas), np.int32)
    pixels = np.array(list(areas.values()), np.int64)
    far = np.abs(values - np.array(meaning.background, np.int32)).max(axis=1)
    near = _near(areas, meaning.background)
    marks: list[Value] = []
    covered = far <= near
    for at in np.argsort(-pixels, kind="stable")[:_MOST_VALUES_OF_A_MASK]:
        distances = np.abs(values - values[at]).max(axis=1)
        peaked = pixels[distances <= near / 3].sum() >= 0.5 * pixels[distances <= near].sum()
        if not covered[at] and peaked and edges.is_flat(int(far[at])):
            marks.append(_value_of(values[at].tolist()))
            covered |= distances <= near
    if not marks:
        marks = [_value_of(values[int(far.argmax())].tolist())]
    coloured = bool((values[:, 0] != values[:, 1]).any() or (values[:, 0] != values[:, 2]).any())
    plain = pixels[far <= near].sum()
    stands_out = plain >= 0.25 * total and pixels[far <= near / 3].sum() >= 0.5 * plain
    if not stands_out or (coloured and pixels[covered].sum() < 0.75 * total):
        problem = (
            f"The masks hold {len(areas)} values and more without a background that stands out, as photographs do: "
            "what is defect in them "
            "cannot be known; save masks of one colour on a plain background."
        )
        return MaskMeaning(meaning.background, tuple(marks), meaning.by_index, meaning.wide_scaled, problem)
    return MaskMeaning(meaning.background, tuple(marks), meaning.by_index, meaning.wide_scaled)


def _value_of(value: Sequence[int]) -> Value:
    red, green, blue, alpha = (int(channel) for channel in value)
    return red, green, blue, alpha


def _name(value: Value, meaning: MaskMeaning) -> str:
    """A value in words: "255", "(255, 0, 0)", "transparent"."""
    red, green, blue, alpha = value
    if meaning.by_index and red == green == blue and alpha == 255:
        return f"{red} (palette index)"
    if alpha == 0:
        return "transparent"
    return str(red) if red == green == blue and alpha == 255 else str(value[:3] if alpha == 255 else value)


def _named(values: Sequence[Value], meaning: MaskMeaning) -> str:
    """Values in words, at most _MOST_NAMED of them: "1, 2 and 255"."""
    names = [_name(value, meaning) for value in values[:_MOST_NAMED]]
    if len(values) > _MOST_NAMED:
        names.append(f"{len(values) - _MOST_NAMED} more")
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
