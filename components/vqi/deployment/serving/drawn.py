"""Pictures and maps of a prediction as bytes of files."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vqi.deployment.sidecar import Sidecar
from vqi.evaluation.pictures import DETECTED, Box, Example, Scale, draw_boxes, heatmap, outline

# What a page or a client shows; a map keeps the photograph's size.
LARGEST_SIDE = 1024


def picture_of(
    pixels: np.ndarray,
    values: np.ndarray,
    boxes: Sequence[Box],
    level: float,
    sidecar: Sidecar,
    largest: int = LARGEST_SIDE,
) -> bytes:
    """The photograph (uint8 [H, W, 3]) with the heatmap, outlines and boxes of what was found, as a JPEG whose longer
    side is at most `largest`. `values` is the map, of the photograph's size or smaller; boxes are in its pixels."""
    import cv2

    height, width = pixels.shape[:2]
    values = values.astype(np.float32, copy=False)
    if values.shape != (height, width):
        values = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    example = Example("", "unknown", "unknown", 0.0, "good", pixels, values).resized(largest)
    threshold = sidecar.thresholds.pixel
    if threshold is None:
        threshold = float(np.nanmax(values))
    drawn = heatmap(example.image, example.map, Scale(threshold, sidecar.thresholds.floor))
    drawn = outline(drawn, example.map > level, DETECTED)
    across, down = drawn.shape[1] / width, drawn.shape[0] / height
    scaled = [
        (round(x1 * across), round(y1 * down), round(x2 * across), round(y2 * down), score)
        for x1, y1, x2, y2, score in boxes
    ]
    content = io.BytesIO()
    Image.fromarray(draw_boxes(drawn, scaled)).save(content, "JPEG", quality=90)
    return content.getvalue()


def map_file(values: np.ndarray) -> bytes:
    """A map, float32 [H, W], as a float TIFF; NaN where the network saw nothing."""
    content = io.BytesIO()
    Image.fromarray(values.astype(np.float32)).save(content, "TIFF", compression="tiff_adobe_deflate")
    return content.getvalue()
