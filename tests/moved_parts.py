"""Parts that lie turned and shifted, drawn, and a set of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 72, 96


def outline(angle: float, across: float, down: float, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Where the part's own coordinates lie, float64 [H, W, 2]: from its middle, in its frame, for a part that is turned
    by `angle` degrees clockwise and shifted by (across, down)."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    x, y = columns - width / 2 - across, rows - height / 2 - down
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.stack([cosine * x + sine * y, -sine * x + cosine * y], axis=-1)


def part(angle: float = 0.0, across: float = 0.0, down: float = 0.0, seed: int = 0, stripe: bool = False) -> np.ndarray:
    """An angle bracket with a hole on a bright table, uint8 [H, W, 3]; with a `stripe` where it is defective."""
    own = outline(angle, across, down)
    x, y = own[..., 0], own[..., 1]
    bracket = (abs(x) < 26) & (abs(y) < 18) & ~((x > -8) & (y < 2))
    hole = (x + 17) ** 2 + (y - 9) ** 2 < 25
    picture = np.random.default_rng(seed).integers(170, 186, (HEIGHT, WIDTH, 3))
    picture[bracket & ~hole] -= 110
    if stripe:
        picture[stripe_of(angle, across, down)] = (250, 40, 240)
    return picture.astype(np.uint8)


def stripe_of(angle: float, across: float, down: float) -> np.ndarray:
    """The defect's mask, bool [H, W]."""
    x, y = np.moveaxis(outline(angle, across, down), 2, 0)
    return (abs(x - 12) < 8) & (abs(y - 12) < 3)


def places(count: int, seed: int) -> list[tuple[float, float, float]]:
    """Angles and shifts, the first of them none."""
    random = np.random.default_rng(seed)
    moved = [(random.uniform(-10, 10), random.uniform(-8, 8), random.uniform(-6, 6)) for _ in range(count - 1)]
    return [(0.0, 0.0, 0.0), *moved]


def write_moved_parts(folder: Path) -> Path:
    """Ten good parts, and parts to test of which some have a stripe, with masks."""
    for name, count, stripe in (("train/good", 10, False), ("test/good", 4, False), ("test/stripe", 5, True)):
        (folder / name).mkdir(parents=True)
        for number, place in enumerate(places(count, len(name))):
            Image.fromarray(part(*place, seed=number + 100 * count, stripe=stripe)).save(
                folder / name / f"{number}.png"
            )
            if stripe:
                mask = folder / "ground_truth" / "stripe" / f"{number}_mask.png"
                mask.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(stripe_of(*place).astype(np.uint8) * 255).save(mask)
    return folder
