"""How a network learnt, for the report: its loss curves, and the maps of a few images after the first epoch and after
the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup

from vqi.evaluation.charts import loss_chart
from vqi.evaluation.pictures import Scale, heatmap
from vqi.evaluation.training_summary import Point, Stopped, TrainingSummary
from vqi.pages.page import data_uri

ENDED: dict[Stopped, str] = {
    "steps": "the budget of steps was used up",
    "seconds": "the time allowed was used up",
    "patience": "the loss on held-out normals no longer fell",
    "satisfied": "the method's own rule was met",
}


@dataclass(frozen=True)
class TrackedImage:
    """An image as the network sees it, uint8 [h, w, 3], and its anomaly maps float32 [h, w] after the first epoch and
    after the last."""

    path: str
    image: np.ndarray
    first: np.ndarray
    last: np.ndarray


@dataclass(frozen=True)
class Learning:
    """A training, its history, and the images that were tracked."""

    summary: TrainingSummary
    points: Sequence[Point]
    tracked: Sequence[TrackedImage] = field(default_factory=tuple)

    def section(self) -> dict[str, Any]:
        """What the page shows."""
        summary = self.summary
        waited = f"{100 * summary.waited_share:.0f} %"
        return {
            "chart": loss_chart([(point.step, point.losses) for point in self.points]),
            "facts": [
                (
                    "steps",
                    f"{summary.steps:,} of {summary.batch_size} images: {summary.epochs:g} passes over "
                    f"{summary.learned_images}",
                ),
                (
                    "time",
                    f"{summary.seconds:.0f} s, {summary.images_per_second:.1f} images/s, {waited} waiting for data",
                ),
                ("ended", ENDED[summary.stopped]),
            ],
            "tracked": [{"path": item.path, "pictures": _pictures(item)} for item in self.tracked],
        }


def _pictures(item: TrackedImage) -> list[tuple[str, Markup]]:
    """Photograph and both maps, each map on its own scale: their units change as the network learns."""
    shown = [("photograph", item.image)]
    for name, values in (("after the first epoch", item.first), ("after the last", item.last)):
        low, middle = float(values.min()), float(np.quantile(values, 0.98))
        shown.append((name, heatmap(item.image, values, Scale(max(middle, low + 1e-12), floor=low))))
    return [(name, data_uri(picture, quality=80)) for name, picture in shown]
