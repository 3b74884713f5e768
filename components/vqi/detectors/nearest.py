"""Exact nearest neighbours in a memory bank, in bounded memory."""

from __future__ import annotations

import torch
from torch import Tensor

# Distances of one tile: 2048 x 4096 float32 are 32 MiB, which stays near the second-level cache of a few cores.
QUERY_TILE = 2048
BANK_TILE = 4096


def nearest(queries: Tensor, bank: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
    """The `count` nearest items of `bank` [M, C] for every one of `queries` [Q, C], nearest first: distances float32
    and indices int64, [Q, count].

    |q - b|² = |q|² - 2 q·b + |b|² finds the items by one matrix product; |q|² is the same for all items and is left
    out. The distances themselves are then taken from the differences: the expansion loses digits where a distance is
    small beside the norms.
    """
    items = (
        _nearest_items(queries, bank, count)
        if torch.compiler.is_exporting()
        else _nearest_items_tiled(queries, bank, count)
    )
    return torch.linalg.vector_norm(queries[:, None] - bank[items], dim=2), items


def _nearest_items(queries: Tensor, bank: Tensor, count: int) -> Tensor:
    """By squared distances without the queries' own norms, [Q, M]."""
    return torch.topk(
        torch.addmm(bank.square().sum(dim=1), queries, bank.T, alpha=-2.0), count, dim=1, largest=False
    ).indices


def _nearest_items_tiled(queries: Tensor, bank: Tensor, count: int) -> Tensor:
    """The same, keeping the best of tile after tile: memory does not grow with the bank or the batch."""
    norms = bank.square().sum(dim=1)
    nearest = torch.empty(len(queries), count, dtype=torch.int64, device=queries.device)
    for start in range(0, len(queries), QUERY_TILE):
        tile = queries[start : start + QUERY_TILE]
        least = torch.empty(len(tile), 0, device=queries.device)
        items = torch.empty(len(tile), 0, dtype=torch.int64, device=queries.device)
        for low in range(0, len(bank), BANK_TILE):
            part = bank[low : low + BANK_TILE]
            values, indices = torch.topk(
                torch.addmm(norms[low : low + BANK_TILE], tile, part.T, alpha=-2.0),
                min(count, len(part)),
                dim=1,
                largest=False,
            )
            values, indices = torch.cat([least, values], dim=1), torch.cat([items, indices + low], dim=1)
            least, order = torch.topk(values, min(count, values.shape[1]), dim=1, largest=False)
            items = indices.gather(1, order)
        nearest[start : start + QUERY_TILE] = items
    return nearest
