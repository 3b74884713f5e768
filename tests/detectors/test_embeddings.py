"""Embeddings in files are those in memory, and a build that was killed computes what is missing alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from normals import Batches, smooth_images

from vqi.detectors import embeddings
from vqi.detectors.embeddings import Embeddings
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings

COUNT, BATCH = 11, 2
DETECTOR = create("patchcore", {"coreset_ratio": 1.0}, BackboneSettings(name="filterbank"), (32, 32))
IMAGES = smooth_images(COUNT, 32)


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    each = 4 * DETECTOR.embed(IMAGES[:1]).numel()
    monkeypatch.setattr(embeddings, "SHARD_BYTES", 4 * each)
    monkeypatch.setattr(embeddings, "LEAST_BYTES", 0)


class Counted:
    """The normals, and the numbers that were asked for beyond the first look at one."""

    def __init__(self, stop_after: int = COUNT) -> None:
        self.stop_after, self.computed = stop_after, list[int]()

    def __call__(self, numbers: Sequence[int]) -> Batches:
        if isinstance(numbers, range):
            self.computed += list(numbers)
            if self.stop_after < COUNT:
                # The fifth batch never comes: as a process that is killed.
                return Killed(IMAGES[list(numbers)], BATCH, self.stop_after)
        return Batches(IMAGES[list(numbers)], BATCH)


class Killed(Batches):
    def __init__(self, images: torch.Tensor, batch: int, stop_after: int) -> None:
        super().__init__(images, batch)
        self.stop_after = stop_after

    def __iter__(self):
        for number, batch in enumerate(super().__iter__()):
            if number * BATCH >= self.stop_after:
                raise KeyboardInterrupt
            yield batch


def all_of(source: Embeddings, numbers: Sequence[int]) -> torch.Tensor:
    return torch.cat(list(source.of(numbers)))


@pytest.mark.parametrize("memory", [0, 2**30])
def test_files_hold_what_memory_would(tmp_path: Path, memory: int) -> None:
    expected = Embeddings(DETECTOR, Counted(), COUNT, BATCH)
    kept = Embeddings(DETECTOR, Counted(), COUNT, BATCH, memory, tmp_path)
    for numbers in (range(COUNT), [0, 1, 5, 6, 7, 10], [9, 2, 3]):
        assert torch.equal(all_of(kept, numbers), all_of(expected, numbers))
    assert [file.name for file in sorted(tmp_path.iterdir())] == [f"features-{n:06d}.f32" for n in range(3)]


def test_a_killed_build_computes_what_is_missing_alone(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        all_of(Embeddings(DETECTOR, Counted(stop_after=8), COUNT, BATCH, 0, tmp_path), range(COUNT))
    assert len(list(tmp_path.iterdir())) == 2
    normals = Counted()
    resumed = all_of(Embeddings(DETECTOR, normals, COUNT, BATCH, 0, tmp_path), range(COUNT))
    assert normals.computed == [8, 9, 10]
    assert torch.equal(resumed, all_of(Embeddings(DETECTOR, Counted(), COUNT, BATCH), range(COUNT)))


def test_a_damaged_file_is_computed_again(tmp_path: Path) -> None:
    before = all_of(Embeddings(DETECTOR, Counted(), COUNT, BATCH, 0, tmp_path), range(COUNT))
    for name, damage in (("features-000000.f32", b"\1"), ("features-000002.f32", b"")):
        content = bytearray((tmp_path / name).read_bytes())
        content[-1:] = damage if damage != content[-1:] else b"\2"
        (tmp_path / name).write_bytes(content)
    normals = Counted()
    assert torch.equal(all_of(Embeddings(DETECTOR, normals, COUNT, BATCH, 0, tmp_path), range(COUNT)), before)
    assert normals.computed == [0, 1, 2, 3, 8, 9, 10]


def test_a_full_disk_leaves_all_to_be_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(embeddings.shutil, "disk_usage", lambda folder: usage)
    kept = Embeddings(DETECTOR, Counted(), COUNT, BATCH, 0, tmp_path)
    assert torch.equal(all_of(kept, range(COUNT)), all_of(Embeddings(DETECTOR, Counted(), COUNT, BATCH), range(COUNT)))
    assert list(tmp_path.iterdir()) == []
