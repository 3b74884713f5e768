import torch

from vqi.detectors import nearest as module
from vqi.detectors.nearest import nearest, nearest_items


def test_tiles_find_what_brute_force_finds(monkeypatch):
    monkeypatch.setattr(module, "QUERY_TILE", 7)
    monkeypatch.setattr(module, "BANK_TILE", 11)
    generator = torch.Generator().manual_seed(0)
    queries, bank = torch.randn(50, 16, generator=generator), torch.randn(90, 16, generator=generator)
    distance, item = nearest(queries, bank)
    expected = torch.cdist(queries.double(), bank.double())
    assert torch.equal(item, expected.argmin(dim=1))
    torch.testing.assert_close(distance.double(), expected.amin(dim=1), rtol=1e-6, atol=0)


def test_the_first_of_equal_items_wins_in_every_tile(monkeypatch):
    monkeypatch.setattr(module, "BANK_TILE", 2)
    bank = torch.tensor([[5.0], [1.0], [1.0], [1.0]])
    assert nearest(torch.tensor([[0.0]]), bank)[1].tolist() == [1]


def test_small_distances_keep_their_digits_beside_large_norms():
    bank = torch.full((3, 64), 1000.0) + torch.arange(3.0)[:, None] * 100
    distance, item = nearest(bank[1:2] + 0.01, bank)
    assert item.tolist() == [1]
    assert abs(float(distance) - 0.08) < 1e-3


def test_nearest_items_come_nearest_first():
    assert nearest_items(torch.tensor([[2.1]]), torch.tensor([[9.0], [2.0], [3.0], [0.0]]), 3).tolist() == [[1, 2, 3]]
