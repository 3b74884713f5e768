"""Box recall: of defects that are drawn as boxes, how many are found.

A box says where a defect lies and not what shape it has: no pixel metric can take it for an outline. It is found where
what pictures mark of the map (BoxRule) reaches into it. A map that marks all of a photograph finds every box in it:
read the recall beside the false-reject rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from vqi.dataset.manifest import PixelBox


class DrawnBoxes:
    """The boxes of a test set, counted photograph by photograph."""

    def __init__(self) -> None:
        self._boxes: Counter[str] = Counter()
        self._hits: Counter[str] = Counter()
        self.unseen = 0

    @property
    def count(self) -> int:
        """All boxes that the network saw a part of."""
        return self._boxes.total()

    def add(self, boxes: Sequence[PixelBox], marked: np.ndarray, seen: np.ndarray, defect: str) -> None:
        """The boxes of a photograph, in its pixels; `marked` and `seen`, bool [H, W]: what of its map is marked, and
        what the network saw. A box off all that it saw is in `unseen` alone."""
        for left, top, right, bottom in boxes:
            inside = (slice(top, bottom), slice(left, right))
            if not seen[inside].any():
                self.unseen += 1
                continue
            self._boxes[defect] += 1
            self._hits[defect] += bool(marked[inside].any())

    def recall(self, defect: str | None = None) -> float | None:
        """The share of boxes that is found, of one type where `defect` names it; None where there are none."""
        boxes, hits = (counts.total() if defect is None else counts[defect] for counts in (self._boxes, self._hits))
        return hits / boxes if boxes else None


# Of a set without boxes.
NO_BOXES = DrawnBoxes()
