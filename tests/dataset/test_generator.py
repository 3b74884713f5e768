"""The procedural data set: layout, determinism, masks that tell the truth."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vqi.dataset.generator import generate, render
from vqi.dataset.generator.defects import DEFECTS
from vqi.platform.errors import BadInput


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def small(folder: Path, **changes: int) -> dict[str, str]:
    generate(folder, **{"seed": 3, "normals": 3, "test_normals": 2, "defects_each": 1, **changes}, size=(96, 128))
    return contents(folder)


def test_layout_sizes_and_masks(tmp_path: Path) -> None:
    files = small(tmp_path / "parts")
    assert len(DEFECTS) >= 4
    expected = {f"train/good/{i:03}.png" for i in range(3)} | {f"test/good/{i:03}.png" for i in range(2)}
    expected |= {f"test/{defect}/000.png" for defect in DEFECTS} | {
        f"ground_truth/{defect}/000_mask.png" for defect in DEFECTS
    }
    assert set(files) == expected
    for name in files:
        with Image.open(tmp_path / "parts" / name) as image:
            assert image.size == (128, 96)
            assert image.mode == ("L" if name.startswith("ground_truth") else "RGB")


def test_same_seed_same_bytes_and_another_seed_other_pictures(tmp_path: Path) -> None:
    first, again, other = small(tmp_path / "a"), small(tmp_path / "b"), small(tmp_path / "c", seed=4)
    assert first == again
    assert not set(first.values()) & set(other.values())
    assert len(set(first.values())) == len(first)


def test_asking_for_more_changes_no_picture(tmp_path: Path) -> None:
    few, more = small(tmp_path / "few"), small(tmp_path / "more", normals=5, test_normals=3, defects_each=2)
    assert few.items() <= more.items()


@pytest.mark.parametrize("defect", sorted(DEFECTS))
def test_mask_covers_what_the_defect_changed(defect: str) -> None:
    """Against the same part without its defect: the picture changes inside the mask, and next to nowhere else."""
    for number in range(4):
        broken, mask = render((192, 192), 11, 2, number, defect)
        clean, empty = render((192, 192), 11, 2, number)
        change = np.abs(broken.astype(int) - clean.astype(int)).max(axis=2)
        assert not empty.any()
        assert 0.0003 < mask.mean() < 0.05
        assert change[mask].mean() > 5
        # Shadows and the lens carry a little of it past the outline.
        assert (change[~mask] > 30).sum() < 0.35 * mask.sum()
        assert change[~mask].mean() < 0.5


@pytest.mark.parametrize("wrong", [{"normals": 0}, {"defects_each": -1}, {"seed": -1}])
def test_impossible_counts_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(BadInput, match="generated set needs"):
        small(tmp_path / "parts", **wrong)
    assert not (tmp_path / "parts").exists()


def test_tiny_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="between 96 and 4096"):
        generate(tmp_path / "parts", seed=0, normals=1, test_normals=0, defects_each=0, size=(32, 256))
