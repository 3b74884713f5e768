"""How unusual each photograph is beside a set's normals: reconstruction errors of a linear subspace of descriptions,
fitted to folds that it is not in.

The method is dfm's (Ahuja et al., arXiv 1909.11786) on `description.describe`; folds keep the photographs of one group
together, so that a second photograph of a part does not excuse the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vqi.dataset.description import CHANNELS, seen_cells
from vqi.dataset.geometry import Geometry
from vqi.dataset.image_inspection import ImageInspection
from vqi.dataset.manifest import Sample
from vqi.platform.threads import decoding_threads, in_threads

FOLDS = 5
SEED = 0
# How many are listed.
LISTED = 10
# The share of the variance that a subspace keeps.
VARIANCE = 0.97
# Fewer normals have no subspace worth the name; more are not needed for one, and those that are searched are chosen
# evenly.
FEWEST, MOST = 10, 20_000
# Of more than so many one fold is fitted at a time.
_MANY = 5000


@dataclass(frozen=True)
class Unusual:
    """A normal, and how many robust deviations its score lies above the others' median."""

    path: str
    deviation: float


def most_unusual(images: Sequence[tuple[Sample, ImageInspection]], geometry: Geometry) -> tuple[Unusual, ...]:
    """The LISTED normals that the others explain least, the most unusual first; none where normals are too few.

    What the network does not see counts for nothing. Of more than MOST normals so many are looked at, evenly chosen.
    """
    # What has the bytes of a photograph that is called a defect may have no description.
    normals = [
        (sample, image.size, image.description)
        for sample, image in images
        if sample.label == "good" and sample.split in ("train", "calibration") and image.description is not None
    ]
    if len(normals) < FEWEST:
        return ()
    if len(normals) > MOST:
        normals = [normals[round(at)] for at in np.linspace(0, len(normals) - 1, MOST)]
    seen = np.logical_and.reduce([seen_cells(geometry, size) for size in {size for _, size, _ in normals}])
    if not seen.any():
        return ()
    descriptions = np.stack([description[seen] for _, _, description in normals])
    errors = left_out_errors(descriptions, [sample.group_key for sample, _, _ in normals], SEED)
    deviations = robust_deviations(errors.sum(axis=1))
    order = np.argsort(-deviations, kind="stable")[:LISTED]
    return tuple(Unusual(normals[number][0].path, float(deviations[number])) for number in order)


@dataclass(frozen=True)
class Subspace:
    """Mean and scale of descriptions, [cells * CHANNELS] each, and the orthonormal directions [k, cells * CHANNELS]
    that normals vary along."""

    mean: np.ndarray
    scale: np.ndarray
    directions: np.ndarray

    def errors(self, descriptions: np.ndarray) -> np.ndarray:
        """What the subspace leaves out of [n, cells, CHANNELS], squared and summed by cell: float32 [n, cells]."""
        centred = descriptions.reshape(len(descriptions), -1).astype(np.float32) / self.scale - self.mean
        left = centred - (centred @ self.directions.T) @ self.directions
        errors: np.ndarray = np.square(left).reshape(len(descriptions), -1, CHANNELS).sum(axis=2)
        return errors


def fit_subspace(descriptions: np.ndarray) -> Subspace:
    """The subspace of descriptions [n, cells, CHANNELS]; each channel counts by its own deviation."""
    values = descriptions.astype(np.float32)
    scale = np.tile(np.maximum(values.reshape(-1, CHANNELS).std(axis=0), 1e-3), values.shape[1]).astype(np.float32)
    rows = values.reshape(len(values), -1) / scale
    mean = rows.mean(axis=0)
    rows -= mean
    # By whichever matrix is smaller: rows @ rows.T or rows.T @ rows.
    wide = rows.shape[0] < rows.shape[1]
    energies, vectors = np.linalg.eigh((rows @ rows.T if wide else rows.T @ rows).astype(np.float64))
    energies, vectors = np.maximum(energies[::-1], 0), vectors[:, ::-1]
    real = int((energies > energies[0] * 1e-7).sum())
    kept = min(int((np.cumsum(energies[:real]) < VARIANCE * energies[:real].sum()).sum()) + 1, real)
    directions = (vectors[:, :kept] / np.sqrt(energies[:kept])).T @ rows if wide else vectors[:, :kept].T
    return Subspace(mean, scale, directions.astype(np.float32))


def left_out_errors(descriptions: np.ndarray, group_keys: Sequence[str], seed: int) -> np.ndarray:
    """For every normal of [n, cells, CHANNELS] the errors by a subspace of folds that its group is not in: float32
    [n, cells]. Which fold a group is in depends on seed and key alone."""
    order = sorted(set(group_keys), key=lambda key: hashlib.sha256(f"{seed}/unusual/{key}".encode()).digest())
    fold_of = {key: number % FOLDS for number, key in enumerate(order)}
    folds = np.array([fold_of[key] for key in group_keys])
    errors = np.zeros(descriptions.shape[:2], dtype=np.float32)

    def of_fold(inside: np.ndarray) -> np.ndarray:
        return fit_subspace(descriptions[~inside]).errors(descriptions[inside])

    sides = [folds == fold for fold in sorted(set(folds.tolist()))]
    sides = [inside for inside in sides if not inside.all()]
    # Each holds several copies of what it is fitted to.
    threads = decoding_threads() if len(descriptions) <= _MANY else 1
    for inside, left in zip(sides, in_threads(of_fold, sides, threads), strict=True):
        errors[inside] = left
    return errors


def robust_deviations(scores: np.ndarray) -> np.ndarray:
    """How many deviations the logarithm of each score lies above the median, the deviation being that of the middle
    half (1.4826 times the median absolute deviation)."""
    logs = np.log(np.maximum(scores, 1e-12))
    middle = np.median(logs)
    deviation = 1.4826 * np.median(np.abs(logs - middle))
    result: np.ndarray = (logs - middle) / max(float(deviation), 1e-6)
    return result
