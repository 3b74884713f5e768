import numpy as np
import pytest
import torch

from vqi.detectors import nearest as module
from vqi.detectors import products
from vqi.detectors.nearest import nearest


def test_tiles_find_what_brute_force_finds(monkeypatch):
    monkeypatch.setattr(module, "QUERY_TILE", 7)
    monkeypatch.setattr(module, "BANK_TILE", 11)
    generator = torch.Generator().manual_seed(0)
    queries, bank = torch.randn(50, 16, generator=generator), torch.randn(90, 16, generator=generator)
    expected = torch.cdist(queries.double(), bank.double())
    for count in (1, 5, 30):  # 30 is more than a tile holds
        distances, items = nearest(queries, bank, count)
        assert torch.equal(items, expected.topk(count, largest=False).indices)
        torch.testing.assert_close(distances.double(), expected.topk(count, largest=False).values, rtol=1e-6, atol=0)


def test_small_distances_keep_their_digits_beside_large_norms():
    bank = torch.full((3, 64), 1000.0) + torch.arange(3.0)[:, None] * 100
    distance, item = nearest(bank[1:2] + 0.01, bank)
    assert item.tolist() == [[1]]
    assert abs(float(distance) - 0.08) < 1e-3


def test_items_come_nearest_first():
    assert nearest(torch.tensor([[2.1]]), torch.tensor([[9.0], [2.0], [3.0], [0.0]]), 3)[1].tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(("items", "count"), [(700, 3), (650, 1), (100, 3), (9000, 9), (700, 40)])
def test_the_nearest_are_those_that_sorting_finds(items: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "WORTH_COMPILING", 0)
    random = np.random.default_rng(0)
    queries, bank = (random.standard_normal((size, 24), dtype=np.float32) for size in (40, items))
    expected = np.linalg.norm(queries[:, None].astype(np.float64) - bank, axis=2)
    distances, chosen = nearest(queries, bank, count)
    np.testing.assert_array_equal(chosen, np.argsort(expected, axis=1)[:, :count])
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :count], rtol=1e-5)
