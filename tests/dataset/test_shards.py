"""Shards: readable by tar, the same bytes for the same content."""

from __future__ import annotations

import subprocess
from pathlib import Path

from vqi.dataset.shards import ShardWriter

FILES = {
    "train/good/000.png": b"a" * 1000,
    "test/empty.png": b"",
    "test/" + "ä" * 120 + ".png": b"b" * 512,
    "test/" + "deep/" * 60 + "x.png": b"c" * 513,
    "test/<b> \n'quote'.png": b"d",
    "test/-leading dash.png": b"e" * 1024,
}


def written(folder: Path, limit: int = 10**6) -> list:
    folder.mkdir()
    with ShardWriter(folder, limit) as shards:
        return [shards.add(path, content) for path, content in FILES.items()]


def test_tar_unpacks_them(tmp_path: Path) -> None:
    written(tmp_path / "shards")
    subprocess.run(["tar", "-C", str(tmp_path), "-xf", str(tmp_path / "shards" / "shard-00000.tar")], check=True)
    for path, content in FILES.items():
        assert (tmp_path / path).read_bytes() == content


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    written(tmp_path / "one")
    written(tmp_path / "two")
    assert (tmp_path / "one" / "shard-00000.tar").read_bytes() == (tmp_path / "two" / "shard-00000.tar").read_bytes()


def test_extents_lead_to_the_content(tmp_path: Path) -> None:
    for limit in (10**6, 4096, 1):
        folder = tmp_path / str(limit)
        for extent, content in zip(written(folder, limit), FILES.values(), strict=True):
            shard = (folder / extent.shard).read_bytes()
            assert shard[extent.offset : extent.offset + extent.length] == content


def test_shards_stay_below_the_limit_and_a_large_file_gets_its_own(tmp_path: Path) -> None:
    extents = written(tmp_path / "small", 4096)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "small").iterdir()}
    assert len(sizes) > 1
    assert all(size <= 4096 for size in sizes.values())
    assert [extent.shard for extent in extents] == sorted(extent.shard for extent in extents)
    written(tmp_path / "tiny", 1)
    assert len(list((tmp_path / "tiny").iterdir())) == len(FILES)
