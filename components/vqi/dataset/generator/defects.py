"""What goes wrong with a flange. Each defect changes the part and returns its mask, bool [H, W]: the pixels a person
would mark."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vqi.dataset.generator.part import BOLT_HOLE, BOLT_HOLES, BORE, CHAMFER, GROOVE, Part, bolt_hole, smooth_noise


def scratch(part: Part, rng: np.random.Generator) -> np.ndarray:
    """A curved tool mark across the face: a narrow furrow with a burnished, brighter bed."""
    start = _on_face(part, rng)
    towards, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.8, 0.8)
    steps = np.linspace(0, 1, 60)
    heading = towards + bend * steps
    reach = part.radius * rng.uniform(0.3, 0.65) / len(steps)
    path = np.column_stack(
        [start[0] + np.cumsum(np.cos(heading)) * reach, start[1] + np.cumsum(np.sin(heading)) * reach]
    )
    distance = np.full(part.size, np.inf, dtype=np.float32)
    for x, y in path:
        distance = np.minimum(distance, part.distance_to(x, y))
    width = max(0.8, part.radius * rng.uniform(0.008, 0.014))
    depth = rng.uniform(0.5, 1.0)
    bed = np.exp(-0.5 * (distance / width) ** 2)
    part.relief -= (depth * width * bed).astype(np.float32)
    part.tint *= (1 + depth * 0.35 * bed)[..., None].astype(np.float32)
    return _visible(part, distance < 2.2 * width)


def dent(part: Part, rng: np.random.Generator) -> np.ndarray:
    """A blow: a round hollow with a raised rim, lit on one side and dark on the other."""
    reach = part.radius * rng.uniform(0.05, 0.10)
    x, y = _on_face(part, rng)
    lopsided = 1 + 0.15 * smooth_noise(rng, part.size, 8)
    out = part.distance_to(x, y) / reach * lopsided
    depth = rng.uniform(0.35, 0.65)
    hollow = np.exp(-1.2 * out**2)
    rim = 0.3 * np.exp(-8 * (out - 1.15) ** 2)
    part.relief += (depth * reach * (rim - hollow)).astype(np.float32)
    part.gloss *= (1 - 0.35 * hollow).astype(np.float32)
    return _visible(part, out < 1.4)


def stain(part: Part, rng: np.random.Generator) -> np.ndarray:
    """Oil or corrosion: a blot of warm tint with a darker border, dull."""
    reach = part.radius * rng.uniform(0.10, 0.20)
    x, y = _on_face(part, rng)
    out = (
        part.distance_to(x, y) / reach
        + 0.26 * smooth_noise(rng, part.size, 13)
        + 0.07 * smooth_noise(rng, part.size, 50)
    )
    body = np.clip((1.1 - out) * 3.5, 0, 1)
    border = np.exp(-0.5 * ((out - 0.9) / 0.1) ** 2)
    strength = rng.uniform(0.16, 0.34)
    cloudy = 1 + 0.25 * smooth_noise(rng, part.size, 30)
    darkening = (strength * body * (0.65 * cloudy + 0.45 * border))[..., None]
    colour = np.array([0.75, 1.05, 1.5]) if rng.random() < 0.6 else np.array([1.1, 1.0, 0.95])
    part.tint *= np.clip(1 - darkening * colour, 0, None).astype(np.float32)
    part.gloss *= (1 - 0.4 * strength * body).astype(np.float32)
    return _visible(part, body > 0.3)


def chipped_edge(part: Part, rng: np.random.Generator) -> np.ndarray:
    """A piece broken out of the outer rim or of the bore, with a rough slope where it tore."""
    reach = part.radius * rng.uniform(0.06, 0.12)
    turn = _away_from_notch(rng)
    edge = part.radius * (1.0 + 0.02 if rng.random() < 0.65 else BORE - 0.02)
    distance = part.distance_to(edge * np.cos(turn), edge * np.sin(turn))
    ragged = distance - reach * (1 + 0.16 * smooth_noise(rng, part.size, 34))
    before = part.solid
    slope = part.radius * CHAMFER
    torn = (before < 0.5) & (ragged < slope)
    part.relief -= (np.clip(slope - ragged, 0, slope) * 0.5 * (1 + 0.5 * smooth_noise(rng, part.size, 60))).astype(
        np.float32
    )
    part.solid = np.maximum(before, -ragged).astype(np.float32)
    return torn


def missing_hole(part: Part, rng: np.random.Generator) -> np.ndarray:
    """A bolt hole that was never drilled; now and then its centre punch shows."""
    x, y = bolt_hole(part, int(rng.integers(BOLT_HOLES)))
    distance = part.distance_to(x, y)
    hole = part.radius * BOLT_HOLE
    undrilled = distance < hole + part.radius * CHAMFER
    part.solid = np.where(undrilled, -part.radius * CHAMFER * 2, part.solid).astype(np.float32)
    if rng.random() < 0.5:
        part.relief -= (1.2 * np.exp(-0.5 * (distance / (0.12 * hole)) ** 2)).astype(np.float32)
    return undrilled


DEFECTS: dict[str, Callable[[Part, np.random.Generator], np.ndarray]] = {
    "chipped_edge": chipped_edge,
    "dent": dent,
    "missing_hole": missing_hole,
    "scratch": scratch,
    "stain": stain,
}


def _on_face(part: Part, rng: np.random.Generator) -> tuple[float, float]:
    """A point of the face, clear of holes and groove, in the part's frame."""
    while True:
        out, turn = part.radius * rng.uniform(BORE + 0.06, 0.93), rng.uniform(0, 2 * np.pi)
        x, y = float(out * np.cos(turn)), float(out * np.sin(turn))
        holes = (bolt_hole(part, number) for number in range(BOLT_HOLES))
        clear = all(np.hypot(x - hole_x, y - hole_y) > part.radius * (BOLT_HOLE + 0.05) for hole_x, hole_y in holes)
        if clear and abs(out - part.radius * GROOVE) > 0.05 * part.radius:
            return x, y


def _away_from_notch(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.25, 2 * np.pi - 0.25))


def _visible(part: Part, mask: np.ndarray) -> np.ndarray:
    """The part of a mask that lies on metal."""
    return mask & (part.solid < 0.5)
