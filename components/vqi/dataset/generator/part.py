"""A machined flange as a camera above the line would see it: geometry as signed distances, shading from the surface's
slope.

Images are float32 in [0, 1] until the camera; lengths are pixels; arrays are [H, W] unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

BOLT_HOLES = 6
# Shares of the outer radius.
BORE, BOLT_CIRCLE, BOLT_HOLE, NOTCH, GROOVE, GROOVE_HALF_WIDTH, CHAMFER = 0.30, 0.70, 0.105, 0.085, 0.475, 0.022, 0.035
METAL = np.array([0.93, 0.95, 0.98], dtype=np.float32)
MAT = np.array([0.15, 0.17, 0.19], dtype=np.float32)


@dataclass
class Part:
    """One flange before the camera. Defects change it, then `photograph` shows it.

    `x`, `y` are pixels from the centre in the part's own (rotated) frame; `solid` is the signed distance to the metal's
    edge, negative inside; `relief` is height added to the face, in pixels; `tint` [H, W, 3] multiplies the metal's
    colour; `gloss` multiplies its highlights.
    """

    x: np.ndarray
    y: np.ndarray
    angle: float
    radius: float
    solid: np.ndarray
    relief: np.ndarray
    tint: np.ndarray
    gloss: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        return self.solid.shape[0], self.solid.shape[1]

    def distance_to(self, x: float, y: float) -> np.ndarray:
        """Pixels from a point of the part's frame."""
        return np.hypot(self.x - x, self.y - y)


def bolt_hole(part: Part, number: int) -> tuple[float, float]:
    """The centre of a bolt hole in the part's frame."""
    turn = 2 * np.pi * (number + 0.5) / BOLT_HOLES
    return part.radius * BOLT_CIRCLE * float(np.cos(turn)), part.radius * BOLT_CIRCLE * float(np.sin(turn))


def position_part(size: tuple[int, int], rng: np.random.Generator, play: float = 1.0) -> Part:
    """A faultless flange positioned under the camera of (height, width) pixels: off centre, turned and scaled a
    little, as a fixture would let it.

    `play` scales all three: 0.03 is a precise fixture, within half a pixel of 1024.
    """
    height, width = size
    shortest = min(size)
    radius = 0.40 * shortest * (1 + play * float(rng.uniform(-0.015, 0.015)))
    centre_x, centre_y = (0.5 * side + shortest * play * float(rng.uniform(-0.015, 0.015)) for side in (width, height))
    angle = float(np.deg2rad(play * rng.uniform(-4, 4)))
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) + np.float32(0.5)
    dx, dy = columns - np.float32(centre_x), rows - np.float32(centre_y)
    x, y = (
        dx * np.float32(np.cos(angle)) + dy * np.float32(np.sin(angle)),
        dy * np.float32(np.cos(angle)) - dx * np.float32(np.sin(angle)),
    )
    flat = np.zeros(size, dtype=np.float32)
    part = Part(
        x, y, angle, radius, flat, flat.copy(), np.ones((*size, 3), dtype=np.float32), np.ones(size, dtype=np.float32)
    )
    from_centre = np.hypot(x, y)
    part.solid = np.maximum(from_centre - radius, radius * BORE - from_centre)
    for number in range(BOLT_HOLES):
        part.solid = np.maximum(part.solid, radius * BOLT_HOLE - part.distance_to(*bolt_hole(part, number)))
    part.solid = np.maximum(part.solid, radius * NOTCH - part.distance_to(radius, 0.0))
    across_groove = (from_centre - radius * GROOVE) / (radius * GROOVE_HALF_WIDTH)
    part.relief = (-1.6 * np.exp(-0.5 * across_groove**2)).astype(np.float32)
    return part


def photograph(part: Part, rng: np.random.Generator) -> np.ndarray:
    """The picture of a part, uint8 [H, W, 3]: turning marks, a light from the upper left, shadow, uneven exposure and
    sensor noise."""
    cover = np.clip(0.5 - part.solid, 0, 1)[..., None]
    metal = _metal(part, rng)
    mat = _mat(part, rng)
    scene = cover * metal + (1 - cover) * mat
    return _camera(scene, rng)


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], cells: int) -> np.ndarray:
    """Noise of about unit deviation with some `cells` bumps along the longer side, float32 of `size`."""
    rows, columns = (max(2, round(cells * side / max(size))) for side in size)
    grid = rng.normal(size=(rows + 1, columns + 1)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((size[1], size[0]), Image.Resampling.BICUBIC)) * np.float32(1.4)


def blurred(values: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian blur of float32 [H, W] or [H, W, C], edges repeated."""
    reach = max(1, round(3 * deviation))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2).astype(np.float32)
    taps /= taps.sum()
    height, width = values.shape[:2]
    padded = np.pad(values, [(reach, reach)] + [(0, 0)] * (values.ndim - 1), mode="edge")
    values = sum((tap * padded[start : start + height] for start, tap in enumerate(taps)), np.zeros_like(values))
    padded = np.pad(values, [(0, 0), (reach, reach)] + [(0, 0)] * (values.ndim - 2), mode="edge")
    return sum((tap * padded[:, start : start + width] for start, tap in enumerate(taps)), np.zeros_like(values))


def _metal(part: Part, rng: np.random.Generator) -> np.ndarray:
    """The lit metal, float32 [H, W, 3]."""
    size, radius = part.size, part.radius
    chamfer = radius * CHAMFER
    height = blurred(part.relief - np.clip(chamfer + part.solid, 0, chamfer), 0.6)
    slope_y, slope_x = np.gradient(height)
    turn = np.deg2rad(rng.uniform(222, 234))
    tilt = np.deg2rad(42)
    light = np.array([np.cos(turn) * np.sin(tilt), np.sin(turn) * np.sin(tilt), np.cos(tilt)], dtype=np.float32)
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    diffuse = np.clip((light[2] - slope_x * light[0] - slope_y * light[1]) / length, 0, None)
    half = light + np.array([0, 0, 1], dtype=np.float32)
    half /= np.linalg.norm(half)
    glint = np.clip((half[2] - slope_x * half[0] - slope_y * half[1]) / length, 0, None) ** 40

    # Turned metal reflects across its circular marks: Kajiya-Kay's highlight of fibres that run along the circles.
    around = np.arctan2(part.y, part.x) + np.float32(part.angle)
    along = -half[0] * np.sin(around) + half[1] * np.cos(around)
    sheen = (1 - along**2) ** 16

    from_centre = np.hypot(part.x, part.y)
    marks = rng.normal(size=256).astype(np.float32)
    coarse = np.convolve(rng.normal(size=256), np.ones(6) / 6**0.5, "same").astype(np.float32)
    position = from_centre / (1.05 * radius) * 255
    ring = np.interp(position, np.arange(256), marks + coarse).astype(np.float32)
    patchy = 1 + 0.35 * smooth_noise(rng, size, 5)
    worn = smooth_noise(rng, size, 9)
    face = 0.34 * diffuse + (0.30 * sheen + 0.10) * part.gloss * (1 + 0.085 * ring * patchy) + 0.012 * worn
    # The groove and the chamfers scatter: their glints are white and narrow.
    lit = face + 0.55 * part.gloss * np.clip(glint - half[2] ** 40, 0, None)
    return (lit[..., None] * METAL * part.tint).astype(np.float32)


def _mat(part: Part, rng: np.random.Generator) -> np.ndarray:
    """The rubber mat with the part's shadow, float32 [H, W, 3]."""
    size = part.size
    grain = 1 + 0.07 * smooth_noise(rng, size, max(size) // 2) + 0.05 * smooth_noise(rng, size, 6)
    cast = np.clip(0.5 - part.solid, 0, 1)
    shift = max(1, round(0.045 * part.radius))
    cast = blurred(np.pad(cast, ((shift, 0), (shift, 0)))[: size[0], : size[1]], 0.03 * part.radius)
    close = np.exp(-np.clip(part.solid, 0, None) / (0.06 * part.radius))
    shade = (1 - 0.55 * cast) * (1 - 0.35 * close)
    dust = np.zeros(size, dtype=np.float32)
    for _ in range(int(rng.integers(0, 4))):
        row, column = int(rng.integers(0, size[0])), int(rng.integers(0, size[1]))
        dust[row : row + 2, column : column + 2] = rng.uniform(0.05, 0.2)
    return ((grain * shade)[..., None] * MAT + dust[..., None]).astype(np.float32)


def _camera(scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lens blur, light falling off across the field, exposure, white balance, gamma and noise; uint8 [H, W, 3]."""
    height, width = scene.shape[:2]
    rows, columns = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    towards = np.deg2rad(rng.uniform(205, 245))
    falling = 1 + 0.11 * (np.cos(towards) * columns + np.sin(towards) * rows) - 0.07 * (rows**2 + columns**2)
    exposure = rng.uniform(0.94, 1.06)
    balance = 1 + rng.uniform(-0.012, 0.012, size=3)
    linear = blurred(scene, float(rng.uniform(0.5, 0.7))) * (falling * exposure)[..., None] * balance
    encoded = np.clip(linear, 0, None).astype(np.float32) ** np.float32(0.85)
    noise = rng.normal(size=scene.shape).astype(np.float32) * (0.008 + 0.012 * encoded)
    return np.asarray(np.clip((encoded + noise) * 255 + 0.5, 0, 255), dtype=np.uint8)
