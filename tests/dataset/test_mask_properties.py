"""Whatever a set's masks are painted with: what is not the background is defect, and nothing else happens."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vqi.dataset.masks import decide_meaning, decode_mask
from vqi.platform.errors import BadInput

# Colours that are no soft edge of each other: few, and all opaque.
COLOURS = st.lists(st.tuples(*[st.sampled_from([0, 90, 180, 255])] * 3), min_size=1, max_size=2, unique=True)


def png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "png")
    return buffer.getvalue()


@given(COLOURS, st.integers(0, 2**32 - 1), st.integers(1, 3), st.booleans())
def test_what_is_painted_on_black_is_defect(
    colours: list[tuple[int, int, int]], seed: int, count: int, grey: bool
) -> None:
    """Squares on black, in any colours, of any greys."""
    random = np.random.default_rng(seed)
    truths, files = [], {}
    for number in range(count):
        picture = np.zeros((24, 31, 3), np.uint8)
        for colour in colours:
            top, left = random.integers(2, 18), random.integers(2, 25)
            picture[top : top + 4, left : left + 4] = (colour[0],) * 3 if grey else colour
        truths.append((picture > 0).any(axis=-1))
        files[f"{number}.png"] = png(picture[..., 0] if grey else picture)
    meaning, sentence = decide_meaning(list(files), files.__getitem__)
    assert "\n" not in sentence
    for (name, data), truth in zip(files.items(), truths, strict=True):
        assert np.array_equal(decode_mask(data, name, meaning), truth)


@given(st.lists(st.binary(max_size=200), max_size=3), st.integers(0, 2**32 - 1), st.floats(0, 1, exclude_max=True))
def test_damaged_masks_decide_nothing_and_are_refused(contents: list[bytes], seed: int, position: float) -> None:
    whole = png(np.random.default_rng(seed).integers(0, 2, (9, 9), dtype=np.uint8) * 255)
    damaged = bytearray(whole)
    damaged[int(position * len(whole))] ^= 0x55
    files = {f"{number}.png": data for number, data in enumerate([bytes(damaged), *contents])}
    meaning, _ = decide_meaning(list(files), files.__getitem__)
    for name, data in files.items():
        try:
            assert decode_mask(data, name, meaning).dtype == bool
        except BadInput:
            continue
