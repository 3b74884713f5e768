import pytest
import torch

from vqi.detectors import coreset, products
from vqi.detectors.coreset import greedy_k_center, random_projection


def naive(points: torch.Tensor, count: int) -> list[int]:
    """Algorithm 1 as it is written: one distance at a time, in float64."""
    points = points.double()
    gap = (points - points.mean(dim=0)).square().sum(dim=1)
    chosen: list[int] = []
    for step in range(count):
        farthest = int(gap.argmax())
        chosen.append(farthest)
        distance = (points - points[farthest]).square().sum(dim=1)
        gap = distance if step == 0 else torch.minimum(gap, distance)
    return chosen


def test_the_selection_is_exactly_the_greedy_one():
    for seed in range(3):
        points = torch.randn(700, 12, generator=torch.Generator().manual_seed(seed)) + 50
        assert greedy_k_center(points, 120).tolist() == naive(points, 120)


@pytest.mark.parametrize("few", [0, 1000])
def test_the_selection_is_the_greedy_one_in_batches_and_tiles(monkeypatch, few):
    """Clusters of unlike density, some far away: few picks are decided at once in one place, many in another."""
    monkeypatch.setattr(coreset, "CANDIDATES", 40)
    monkeypatch.setattr(coreset, "PICKS", 16)
    monkeypatch.setattr(coreset, "TILE", 256)
    monkeypatch.setattr(coreset, "COLUMNS", 24)
    monkeypatch.setattr(coreset, "FEW", few)
    for seed in range(4):
        random = torch.Generator().manual_seed(seed)
        spread = torch.tensor([0.2, 1.0, 5.0])[torch.randint(3, (900, 1), generator=random)]
        centres = 20 * torch.randn(7, 6, generator=random)[torch.randint(7, (900,), generator=random)]
        points = centres + spread * torch.randn(900, 6, generator=random)
        assert greedy_k_center(points, 300).tolist() == naive(points, 300)


def test_products_by_openvino_choose_what_numpys_do(monkeypatch):
    points = torch.randn(1500, 48, generator=torch.Generator().manual_seed(0)).numpy()
    by_numpy = greedy_k_center(points, 200)
    monkeypatch.setattr(products, "WORTH_COMPILING", 0)
    assert greedy_k_center(points, 200).tolist() == by_numpy.tolist()
    assert greedy_k_center(torch.from_numpy(points), 200).tolist() == by_numpy.tolist()


def test_equal_points_are_never_chosen_twice():
    points = torch.ones(40, 3)
    assert sorted(greedy_k_center(points, 40).tolist()) == list(range(40))


def test_a_spent_time_budget_keeps_what_was_chosen_and_the_minimum():
    points = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    assert greedy_k_center(points, 400, max_seconds=1e-9, at_least=9).tolist() == greedy_k_center(points, 9).tolist()


def test_a_projection_keeps_distances():
    points = torch.randn(30, 2000, generator=torch.Generator().manual_seed(0))
    projected = points @ random_projection(2000, 128, torch.Generator().manual_seed(1))
    ratio = torch.pdist(projected) / torch.pdist(points)
    assert 0.9 < float(ratio.mean()) < 1.1
    assert float(ratio.min()) > 0.6
