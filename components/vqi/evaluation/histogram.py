"""Scores counted by label, as results hold them and the report draws them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vqi.dataset.manifest import Label
from vqi.platform.records import Items, Record

# Distances may spread over decades; a linear axis would press all normals into one bar.
LOG_SPREAD = 30.0


class Histogram(Record):
    """Scores counted by label between `edges`, one more than counts, which are spaced by ratio where `log`; without any
    finite score both are empty."""

    edges: Items[float]
    log: bool
    counts: dict[Label, Items[int]]

    @staticmethod
    def of(labels: Sequence[Label], scores: Sequence[float], bins: int = 40) -> Histogram:
        """Scores counted in `bins` by label. Edges are spaced by ratio where positive scores spread widely. Scores that
        are not finite are left out."""
        values = np.asarray(scores, dtype=np.float64)
        finite = np.isfinite(values)
        if not finite.any():
            return Histogram(edges=(), log=False, counts={})
        low, high = float(values[finite].min()), float(values[finite].max())
        log = low > 0 and high / max(float(np.median(values[finite])), low) > LOG_SPREAD
        if high <= low:
            low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
        edges = np.geomspace(low, high, bins + 1) if log else np.linspace(low, high, bins + 1)
        edges[0], edges[-1] = low, high
        names = np.asarray(labels)
        counts = {
            name: tuple(np.histogram(values[finite & (names == name)], edges)[0].tolist())
            for name in sorted(set(labels))
        }
        return Histogram(edges=tuple(edges.tolist()), log=bool(log), counts=counts)
