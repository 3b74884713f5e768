"""Indices that are fitted in parts, against the one of a single task."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqi.detectors.nearest import nearest
from vqi.detectors.parts import Coreset, bounds_of_shards
from vqi.detectors.patchcore import Patchcore
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.platform.errors import BadInput

IMAGES = 35


def detector(**settings: float) -> Patchcore:
    made = create("patchcore", {"coreset_ratio": 0.02, **settings}, BackboneSettings(name="filterbank"), (64, 64), 0)
    assert isinstance(made, Patchcore)
    return made


def normals(made: Patchcore, channels: int = 12) -> Tensor:
    """Embeddings [IMAGES, h, w, C] of normals of a few kinds, some of which one shard alone has."""
    generator = torch.Generator().manual_seed(3)
    kinds = (
        torch.randn(IMAGES, 1, 1, channels, generator=generator) * torch.linspace(0.1, 3, IMAGES)[:, None, None, None]
    )
    return kinds + torch.randn(IMAGES, *made.grid, channels, generator=generator) * 0.3


def farthest(patches: Tensor, bank: Tensor) -> float:
    """How far a patch can be from the bank."""
    return float(nearest(patches.reshape(-1, patches.shape[-1]), bank)[0].max())


def coresets_of(made: Patchcore, embeddings: Tensor, shards: int) -> list[Coreset]:
    made.begin_build()
    return [
        coreset
        for first, end in bounds_of_shards(IMAGES, shards)
        for coreset in made.fit_part(iter(embeddings[first:end].split(4)), end - first, IMAGES)
    ]


@pytest.mark.parametrize("shards", [1, 2, 7])
def test_no_patch_is_farther_from_the_merged_bank_than_it_says_and_than_four_times_that_of_one_task(
    shards: int,
) -> None:
    made = detector()
    embeddings = normals(made)
    single = made.fit(iter(embeddings.split(4)), IMAGES)["memory_bank"]
    coresets = coresets_of(made, embeddings, shards)
    merged = made.fit_union(coresets, IMAGES)["memory_bank"]
    assert len(merged) == len(single) == round(IMAGES * made.grid[0] * made.grid[1] * 0.02)
    radius = farthest(embeddings, merged)
    (note,) = made.build_notes
    said = float(note.rpartition(" is farther than ")[2].removesuffix(" from it"))
    assert radius <= said * 1.001
    assert radius <= 4 * farthest(embeddings, single)
    if shards == 1:
        assert sorted(merged.tolist()) == sorted(single.tolist())


@pytest.mark.parametrize("shards", [2, 7])
def test_each_coreset_holds_as_much_as_the_bank_and_knows_its_radius(shards: int) -> None:
    made = detector()
    embeddings = normals(made)
    target = round(IMAGES * made.grid[0] * made.grid[1] * 0.02)
    coresets = coresets_of(made, embeddings, shards)
    assert len(coresets) == shards
    for (first, end), coreset in zip(bounds_of_shards(IMAGES, shards), coresets, strict=True):
        part = embeddings[first:end]
        assert len(coreset.items) == min(target, part.numel() // part.shape[-1])
        assert coreset.radius == pytest.approx(farthest(part, coreset.items), abs=1e-4)


def test_what_does_not_fit_into_memory_becomes_several_coresets(monkeypatch: pytest.MonkeyPatch) -> None:
    made = detector()
    embeddings = normals(made)
    image = embeddings[0].numel() * 4
    monkeypatch.setattr("vqi.detectors.memory_bank.PATCH_MEMORY", 10 * image)
    coresets = coresets_of(made, embeddings, 2)
    assert len(coresets) == 4
    merged = made.fit_union(coresets, IMAGES)["memory_bank"]
    assert farthest(embeddings, merged) <= max(each.radius for each in coresets) + farthest(
        torch.cat([each.items for each in coresets]), merged
    ) * (1 + 1e-4)


def test_too_few_patches_are_refused_in_a_part_too() -> None:
    made = detector(neighbours=100)
    embeddings = normals(made)[:1, :1, :1]
    made.grid = (1, 1)
    with pytest.raises(BadInput, match="fewer than the 100 neighbours"):
        made.fit_part(iter([embeddings]), 1, 1)


@pytest.mark.parametrize(("count", "shards"), [(10, 1), (10, 3), (3, 7), (0, 2)])
def test_shards_hold_every_normal_once_and_differ_by_one_at_most(count: int, shards: int) -> None:
    bounds = bounds_of_shards(count, shards)
    assert [number for first, end in bounds for number in range(first, end)] == list(range(count))
    sizes = [end - first for first, end in bounds]
    assert len(sizes) == shards
    assert max(sizes) - min(sizes) <= 1
