import numpy as np
import pytest
import torch

from vqi.detectors import coresets_of_others
from vqi.detectors.coresets_of_others import greedy_without_each


def clusters(seed: int, count: int, spreads: tuple[float, ...] = (0.2, 0.5, 1.0)) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = 4 * random.standard_normal((7, 6))[random.integers(7, size=count)]
    return (centres + random.choice(spreads, (count, 1)) * random.standard_normal((count, 6))).astype(np.float32)


def assert_greedy(points: np.ndarray, allowed: np.ndarray, chosen: list[int]) -> None:
    """Each of `chosen` is the farthest of `allowed` from those before it, within rounding; in float64."""
    points = points.astype(np.float64)
    gap = np.square(points - points[allowed].mean(axis=0)).sum(axis=1)
    for step, pick in enumerate(chosen):
        assert pick in allowed
        assert gap[pick] >= gap[allowed].max() - 1e-3
        distance = np.square(points - points[pick]).sum(axis=1)
        gap = distance if step == 0 else np.minimum(gap, distance)


@pytest.mark.parametrize("count", [20, 150, 380])
@pytest.mark.parametrize("many", [False, True])
def test_selections_that_share_distances_are_greedy(monkeypatch, count, many):
    """Few neighbours, small blocks; 20 are too few to share."""
    monkeypatch.setattr(coresets_of_others, "NEIGHBOURS", 30)
    monkeypatch.setattr(coresets_of_others, "BLOCK", 64)
    if many:
        monkeypatch.setattr(coresets_of_others, "FEW", 0)
        monkeypatch.setattr("vqi.detectors.coreset.FEW", 0)
    parts = [clusters(seed, size) for seed, size in enumerate((150, 90, 200, 151))]
    points, start = np.concatenate(parts), 0
    for part, chosen in zip(parts, greedy_without_each(parts, count), strict=True):
        assert len(set(chosen.tolist())) == count
        assert_greedy(points, np.delete(np.arange(len(points)), slice(start, start + len(part))), chosen.tolist())
        start += len(part)


def test_a_selection_of_more_than_there_are_has_all_points_as_they_lie():
    parts = [clusters(seed, 20) for seed in range(3)]
    made = [chosen.tolist() for chosen in greedy_without_each(parts, 50)]
    assert made == [sorted(set(range(60)) - set(range(20 * number, 20 * number + 20))) for number in range(3)]


def test_equal_points_are_chosen_once_each():
    made = [sorted(chosen.tolist()) for chosen in greedy_without_each([np.ones((20, 3), np.float32)] * 3, 30)]
    assert all(len(set(chosen)) == 30 for chosen in made)


def test_tensors_give_tensors_of_the_same_numbers():
    parts = [clusters(seed, 100) for seed in range(3)]
    made = list(greedy_without_each([torch.from_numpy(part) for part in parts], 60))
    assert all(isinstance(chosen, torch.Tensor) for chosen in made)
    assert [chosen.tolist() for chosen in made] == [chosen.tolist() for chosen in greedy_without_each(parts, 60)]
