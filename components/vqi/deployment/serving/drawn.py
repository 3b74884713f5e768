"""Pictures and maps of a prediction as bytes of files."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from vqi.deployment.predictor import Prediction
from vqi.deployment.sidecar import Sidecar
from vqi.evaluation.pictures import DETECTED, Example, Scale, draw_boxes, heatmap, outline

# What a page or a client shows; a map keeps the photograph's size.
LARGEST_SIDE = 1024


def picture_of(prediction: Prediction, pixels: np.ndarray, sidecar: Sidecar, form: str = "JPEG") -> bytes:
    """The photograph (uint8 [H, W, 3]) with the heatmap, outlines and boxes of what was found, as a file of `form`."""
    height, width = pixels.shape[:2]
    example = Example(
        prediction.name, "unknown", "unknown", prediction.score, prediction.decision, pixels, prediction.map
    ).resized(LARGEST_SIDE)
    threshold = sidecar.thresholds.pixel
    if threshold is None:
        threshold = float(np.nanmax(prediction.map))
    drawn = heatmap(example.image, example.map, Scale(threshold, sidecar.thresholds.floor))
    drawn = outline(drawn, example.map > prediction.level, DETECTED)
    across, down = drawn.shape[1] / width, drawn.shape[0] / height
    drawn = draw_boxes(
        drawn,
        [
            (round(x1 * across), round(y1 * down), round(x2 * across), round(y2 * down), score)
            for x1, y1, x2, y2, score in prediction.boxes
        ],
    )
    content = io.BytesIO()
    Image.fromarray(drawn).save(content, form, **({"quality": 90} if form == "JPEG" else {}))
    return content.getvalue()


def map_file(values: np.ndarray) -> bytes:
    """A map, float32 [H, W], as a float TIFF; NaN where the network saw nothing."""
    content = io.BytesIO()
    Image.fromarray(values.astype(np.float32)).save(content, "TIFF", compression="tiff_adobe_deflate")
    return content.getvalue()
