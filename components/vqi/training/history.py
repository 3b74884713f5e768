"""The losses of a run as it goes: means over stretches of steps, few enough to draw and to store."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

POINTS = 400


class History:
    """Means of every loss over stretches of `stretch` steps. What is not yet a whole stretch is kept too, so that a
    resumed run records the same."""

    def __init__(self, steps: int, state: dict[str, Any] | None = None) -> None:
        self.stretch = max(1, -(-steps // POINTS))
        self.points: list[dict[str, float]] = list(state["points"]) if state else []
        self.sums: dict[str, Tensor] = {}
        self.count = int(state["count"]) if state else 0
        self._carried: dict[str, float] = dict(state["sums"]) if state else {}

    def add(self, losses: dict[str, Tensor]) -> None:
        """One step's losses; nothing is read back from the device."""
        for name, value in losses.items():
            value = value.detach().float()
            if name not in self.sums:
                self.sums[name] = torch.full_like(value, self._carried.pop(name, 0.0))
            self.sums[name] = self.sums[name] + value
        self.count += 1

    def means(self) -> dict[str, float]:
        """Of the stretch that is under way."""
        return {name: value.item() / max(self.count, 1) for name, value in self.sums.items()}

    def close(self, step: int, rate: float, last: bool = False) -> dict[str, float] | None:
        """At the end of a stretch (or of the run): its point, recorded; else None."""
        if not self.count or (self.count < self.stretch and not last):
            return None
        point = {"step": float(step), "learning_rate": rate, **self.means()}
        self.points.append(point)
        self.sums, self.count = {}, 0
        return point

    def state(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "points": self.points,
            "count": self.count,
            "sums": {name: value.item() for name, value in self.sums.items()} | self._carried,
        }
