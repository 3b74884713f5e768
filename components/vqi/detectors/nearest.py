"""Exact nearest neighbours in a memory bank, in bounded memory."""

from __future__ import annotations

import torch
from torch import Tensor

# Distances of one tile: 2048 x 4096 float32 are 32 MiB, which stays near the second-level cache of a few cores.
QUERY_TILE = 2048
BANK_TILE = 4096


def nearest(queries: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest item of `bank` [M, C] for every one of `queries` [Q, C]: Euclidean distance float32 [Q], and its index int64 [Q].

    |q - b|² = |q|² - 2 q·b + |b|² finds the item by one matrix product; |q|² is the same for all items and is left out. The distance itself is
    then taken from the difference: the expansion loses digits where a distance is small beside the norms.
    """
    item = _nearest_item(queries, bank) if torch.compiler.is_exporting() else _nearest_item_tiled(queries, bank)
    return torch.linalg.vector_norm(queries - bank[item], dim=1), item


def nearest_items(queries: Tensor, bank: Tensor, count: int) -> Tensor:
    """The `count` nearest items of `bank` [M, C] for a few `queries` [Q, C], nearest first: indices int64 [Q, count]."""
    return torch.topk(_comparable(queries, bank), count, dim=1, largest=False).indices


def _comparable(queries: Tensor, bank: Tensor) -> Tensor:
    """Squared distances without the queries' own norms, [Q, M]."""
    return torch.addmm(bank.square().sum(dim=1), queries, bank.T, alpha=-2.0)


def _nearest_item(queries: Tensor, bank: Tensor) -> Tensor:
    return _comparable(queries, bank).argmin(dim=1)


def _nearest_item_tiled(queries: Tensor, bank: Tensor) -> Tensor:
    """The same, with a running minimum over tiles: memory does not grow with the bank or the batch. The first of equal items wins."""
    norms = bank.square().sum(dim=1)
    found = torch.empty(len(queries), dtype=torch.int64, device=queries.device)
    for start in range(0, len(queries), QUERY_TILE):
        tile = queries[start : start + QUERY_TILE]
        least = torch.full((len(tile),), torch.inf, device=queries.device)
        item = torch.zeros(len(tile), dtype=torch.int64, device=queries.device)
        for low in range(0, len(bank), BANK_TILE):
            values = torch.addmm(norms[low : low + BANK_TILE], tile, bank[low : low + BANK_TILE].T, alpha=-2.0)
            value, index = values.min(dim=1)
            closer = value < least
            least = torch.where(closer, value, least)
            item = torch.where(closer, index + low, item)
        found[start : start + QUERY_TILE] = item
    return found
