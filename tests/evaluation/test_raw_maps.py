from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from vqi.evaluation.raw_maps import decode_png_map, encode_map


def test_a_png_is_read_back_within_half_a_step() -> None:
    values = np.random.default_rng(0).normal(3, 40, (5, 7)).astype(np.float32)
    values[0, :3] = np.nan
    raw = encode_map(values, "png")
    assert raw.range == (np.nanmin(values), np.nanmax(values))
    levels = cv2.imdecode(np.frombuffer(raw.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (levels.dtype, levels.min(), levels.max()) == (np.uint16, 0, 65535)
    np.testing.assert_array_equal(levels == 0, np.isnan(values))
    back = decode_png_map(raw.content)
    step = (raw.range[1] - raw.range[0]) / 65534
    np.testing.assert_allclose(back, values, atol=0.5 * step + 1e-5)


@pytest.mark.parametrize("values", [np.full((2, 3), 7.5, np.float32), np.full((2, 3), np.nan, np.float32)])
def test_a_flat_or_empty_map_is_a_png(values: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_png_map(encode_map(values, "png").content), values)


def test_a_tiff_holds_the_values() -> None:
    values = np.array([[np.nan, 1.5], [-2, 1e-7]], np.float32)
    raw = encode_map(values, "tiff")
    assert raw.range is None
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(raw.content))), values)
