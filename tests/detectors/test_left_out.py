"""PaDiM's scores of normals that are left out, in closed form, against refits and the plain computation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from normals import Batches, smooth_images
from torch import Tensor

from vqi.detectors import gaussians
from vqi.detectors.calibration import cross_scores
from vqi.detectors.embeddings import Embeddings
from vqi.detectors.indexed import Indexed
from vqi.detectors.left_out import left_out_distances
from vqi.detectors.padim import Padim
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.platform.errors import RunFailed


def detector_and_normals(count: int, **settings: object) -> tuple[Padim, Embeddings]:
    detector = create("padim", settings, BackboneSettings(weights="random"), (64, 64), seed=3)
    assert isinstance(detector, Padim)
    images = smooth_images(count)
    return detector, Embeddings(detector, lambda numbers: Batches(images[list(numbers)], 4), count, 4)


def dealt(count: int, folds: int) -> list[list[int]]:
    order = np.random.default_rng(0).permutation(count).tolist()
    return [sorted(order[start::folds]) for start in range(folds)]


def plain_distances(values: np.ndarray, folds: Sequence[Sequence[int]], regularisation: float) -> np.ndarray:
    """float64 [P, n] of `values` [P, n, d], one covariance after another."""
    result = np.zeros(values.shape[:2])
    for fold in folds:
        left = np.setdiff1d(np.arange(values.shape[1]), fold)
        for position, rows in enumerate(values.astype(np.float64)):
            covariance = np.cov(rows[left].T) + regularisation * np.eye(rows.shape[1])
            centred = rows[fold] - rows[left].mean(axis=0)
            result[position, fold] = np.sqrt((centred @ np.linalg.inv(covariance) * centred).sum(axis=1))
    return result


@pytest.mark.parametrize(
    ("count", "folds", "settings"),
    [
        (3, 3, {}),
        (10, 10, {"regularisation": 0.1}),
        (31, 10, {}),
        (31, 3, {"regularisation": 1.0}),
        (50, 10, {"channels": 8}),
        (50, 10, {"channels": 60, "regularisation": 1e-3}),
    ],
)
def test_scores_are_those_of_refits(count, folds, settings, monkeypatch):
    detector, normals = detector_and_normals(count, **settings)
    parts = dealt(count, folds)
    refits = [list(batches) for batches in Indexed.left_out_scores(detector, normals.of, parts)]
    monkeypatch.delattr(gaussians.Gaussians, "fit")
    for fold, batches, refit in zip(parts, detector.left_out_scores(normals.of, parts), refits, strict=True):
        scores = list(batches)
        image, maps = (torch.cat([score[part] for score in scores]) for part in (0, 1))
        assert image.shape == (len(fold),)
        assert maps.shape == (len(fold), 64, 64)
        assert image.dtype == maps.dtype == torch.float32
        torch.testing.assert_close(image, torch.cat([score.image for score in refit]), rtol=2e-5, atol=0)
        torch.testing.assert_close(maps, torch.cat([score.map for score in refit]), rtol=2e-5, atol=0)


@pytest.mark.parametrize(("count", "channels"), [(6, 12), (24, 24), (25, 24), (40, 12)])
@pytest.mark.parametrize("regularisation", [1e-5, 0.01])
def test_distances_lose_no_digits(count, channels, regularisation):
    """Channels of very different spread, far from zero, and one row that is ten times as large as the others: its own
    Gaussian and that of all differ in most digits. Folds of 1, 2 and more rows."""
    random = np.random.default_rng(1)
    values = (random.normal(size=(3, count, channels)) * np.logspace(-2, 1, channels) + 5).astype(np.float32)
    values[:, 1] *= 10
    lengths = [1, 2, *[1] * (count - 6), 3]
    folds = np.split(np.arange(count), np.cumsum(lengths)[:-1])
    distances = left_out_distances(torch.from_numpy(values), lengths, regularisation)
    assert distances.dtype == torch.float32
    np.testing.assert_allclose(distances, plain_distances(values, folds, regularisation), rtol=1e-6)


def test_a_normal_like_all_others_scores_0():
    values = torch.full((2, 5, 3), 7.0)
    torch.testing.assert_close(left_out_distances(values, [1, 2, 2], 0.01), torch.zeros(2, 5), rtol=0, atol=1e-6)


def test_what_is_not_positive_definite_ends_in_a_sentence():
    with pytest.raises(RunFailed, match="not positive definite"):
        left_out_distances(torch.full((1, 4, 2), float("nan")), [1, 1, 1, 1], 0.01)


def test_embeddings_beyond_the_memory_are_read_several_times(monkeypatch):
    detector, normals = detector_and_normals(8)
    reads = 0

    def counted(numbers: Sequence[int]) -> Iterator[Tensor]:
        nonlocal reads
        reads += 1
        return normals.of(numbers)

    def maps() -> Tensor:
        return torch.cat([score.map for batches in detector.left_out_scores(counted, dealt(8, 4)) for score in batches])

    whole = maps()
    assert reads == 1
    assert torch.equal(whole, maps())
    size = 4 * 8 * 256 * 100
    monkeypatch.setattr(gaussians, "LEFT_OUT_MEMORY", size // 3 + 100)
    monkeypatch.setattr(gaussians, "LEFT_OUT_BLOCK", 8 * 100 * 100 * 7)
    reads = 0
    torch.testing.assert_close(maps(), whole, rtol=1e-6, atol=0)
    assert reads == 3
    # More often than there are folds: a fit each reads less. It reads the others of a fold, then the fold.
    monkeypatch.setattr(gaussians, "LEFT_OUT_MEMORY", size // 5)
    reads = 0
    torch.testing.assert_close(maps(), whole, rtol=2e-5, atol=0)
    assert reads == 8


def test_every_normal_keeps_its_own_score(monkeypatch):
    detector, normals = detector_and_normals(7)
    groups = ["a", "b", "a", "c", "d", "b", "e"]
    folds, scores = cross_scores(detector, normals, groups)
    monkeypatch.setattr(Padim, "left_out_scores", Indexed.left_out_scores)
    assert folds == 5
    for closed, refit in zip(scores, cross_scores(detector, normals, groups)[1], strict=True):
        assert closed == pytest.approx(refit, rel=2e-5)
