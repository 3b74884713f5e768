"""Hatching: how pictures show what counts neither as defect nor as good."""

from __future__ import annotations

import numpy as np

_INK = (255, 255, 255)
_CASING = (20, 24, 30)


def hatch(picture: np.ndarray, region: np.ndarray) -> np.ndarray:
    """A copy of `picture`, uint8 [H, W, 3], with diagonal lines over `region`, bool [H, W]; light on a dark casing, so
    that they are seen on any ground."""
    height, width = region.shape
    period = max(8, round(max(height, width) / 40))
    phase = (np.arange(height)[:, None] + np.arange(width)[None]) % period
    thickness = max(1, period // 8)
    hatched = picture.copy()
    hatched[region & (phase < 2 * thickness)] = _CASING
    hatched[region & (phase < thickness)] = _INK
    return hatched
