"""Exact nearest neighbours in a memory bank, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vqi.detectors.arrays import Array, alike, is_tensor, on_processor
from vqi.detectors.products import Products

if TYPE_CHECKING:
    from torch import Tensor

# Distances of one tile on an accelerator: 2048 x 4096 float32 are 32 MiB.
QUERY_TILE = 2048
BANK_TILE = 4096
# On a processor a tile of distances stays in the second-level cache of a few cores.
PROCESSOR_QUERIES = 512
# So few are taken one after the other: NumPy's argmin reads 20 values a nanosecond, its partition one (512 x 4096, an
# EPYC with AVX-512).
FEW = 16
# Queries whose distances are taken at once: what is fetched for them stays in the cache.
FETCHED = 128


def nearest(queries: Array, bank: Array, count: int = 1) -> tuple[Array, Array]:
    """The `count` nearest items of `bank` [M, C] for every one of `queries` [Q, C], nearest first: distances float32
    and indices int64, [Q, count].

    |q - b|² = |q|² - 2 q·b + |b|² finds the items by one matrix product; |q|² is the same for all items and is left
    out. The distances themselves are then taken from the differences: the expansion loses digits where a distance is
    small beside the norms.
    """
    rows, items_of = on_processor(queries), on_processor(bank)
    if is_tensor(rows):
        return _nearest_tensors(rows, items_of, count)
    items = _nearest_on_processor(rows, items_of, count)
    distances = _distances(rows, items_of, items)
    return alike(distances, queries), alike(items, queries)


def _distances(queries: np.ndarray, bank: np.ndarray, items: np.ndarray) -> np.ndarray:
    """From each query to its items: float32 [Q, count]."""
    distances = np.empty(items.shape, dtype=np.float32)
    for start in range(0, len(queries), FETCHED):
        part = slice(start, start + FETCHED)
        differences = bank[items[part]] - queries[part, None]
        np.einsum("qkc,qkc->qk", differences, differences, out=distances[part])
    return np.sqrt(distances, out=distances)


def _nearest_on_processor(queries: np.ndarray, bank: np.ndarray, count: int) -> np.ndarray:
    """int64 [Q, count], keeping the best of tile after tile: memory does not grow with the bank or the batch."""
    products = Products(bank.shape[1], len(queries) * bank.size)
    norms = np.einsum("mc,mc->m", bank, bank)
    doubled = [-2.0 * bank[low : low + BANK_TILE] for low in range(0, len(bank), BANK_TILE)]
    nearest = np.empty((len(queries), count), dtype=np.int64)
    for start in range(0, len(queries), PROCESSOR_QUERIES):
        tile = queries[start : start + PROCESSOR_QUERIES]
        least = np.empty((len(tile), 0), dtype=np.float32)
        items = np.empty((len(tile), 0), dtype=np.int64)
        for number, part in enumerate(doubled):
            low = number * BANK_TILE
            values, indices = _least(products.all(tile, part, norms[low : low + len(part)]), min(count, len(part)))
            if number:
                values, indices = (
                    np.concatenate([least, values], axis=1),
                    np.concatenate([items, indices + low], axis=1),
                )
                order = np.argsort(values, axis=1, kind="stable")[:, :count]
                values, indices = np.take_along_axis(values, order, 1), np.take_along_axis(indices, order, 1)
            least, items = values, indices
        nearest[start : start + len(tile)] = items
    return nearest


def _least(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` least of each row of `values` [q, m], least first, and where they are; `values` are changed."""
    if count > FEW:
        where = np.argpartition(values, count - 1, axis=1)[:, :count] if count < values.shape[1] else None
        least = values if where is None else np.take_along_axis(values, where, 1)
        order = np.argsort(least, axis=1, kind="stable")
        where = order if where is None else np.take_along_axis(where, order, 1)
        return np.take_along_axis(values, where, 1), where
    rows = np.arange(len(values))
    least, where = np.empty((len(values), count), dtype=np.float32), np.empty((len(values), count), dtype=np.int64)
    for number in range(count):
        where[:, number] = values.argmin(axis=1)
        least[:, number] = values[rows, where[:, number]]
        values[rows, where[:, number]] = np.inf
    return least, where


def _nearest_tensors(queries: Tensor, bank: Tensor, count: int) -> tuple[Tensor, Tensor]:
    import torch

    items = (
        _nearest_items(queries, bank, count)
        if torch.compiler.is_exporting()
        else _nearest_items_tiled(queries, bank, count)
    )
    return torch.linalg.vector_norm(queries[:, None] - bank[items], dim=2), items


def _nearest_items(queries: Tensor, bank: Tensor, count: int) -> Tensor:
    """By squared distances without the queries' own norms, [Q, M]."""
    import torch

    return torch.topk(
        torch.addmm(bank.square().sum(dim=1), queries, bank.T, alpha=-2.0), count, dim=1, largest=False
    ).indices


def _nearest_items_tiled(queries: Tensor, bank: Tensor, count: int) -> Tensor:
    """The same, keeping the best of tile after tile: memory does not grow with the bank or the batch."""
    import torch

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
