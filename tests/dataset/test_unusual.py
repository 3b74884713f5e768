"""A defect among the normals stands at the head of the list of those least like the others; nothing else is decided."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from photograph_folders import write_files
from step_calls import ingest
from vqi.dataset.checks import judge
from vqi.dataset.description import CHANNELS, GRID, SIDE, describe, describe_all, pictured, reduced, seen_cells
from vqi.dataset.geometry import Geometry
from vqi.dataset.inspection import inspect_samples
from vqi.dataset.near_duplicates import thumbnail
from vqi.dataset.reader import Dataset
from vqi.dataset.unusual import FEWEST, LISTED, Unusual, robust_deviations


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def part(number: int, defect: bool = False) -> np.ndarray:
    """A disc with noise of its own, and a bar across it where it is a defect."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[:64, :64]
    shape = np.where((rows - 32) ** 2 + (columns - 32) ** 2 < 400, 170, 60)
    if defect:
        shape[28:33, 14:50] = 20
    noisy = shape[..., None] + random.normal(0, 4, (64, 64, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def unusual(folder: Path, normals: int, geometry: Geometry | None = None, defect: bool = True) -> tuple[Unusual, ...]:
    files = {f"train/good/{number:02}.png": png(part(number)) for number in range(normals)}
    files |= {f"test/good/{number}.png": png(part(100 + number)) for number in range(2)}
    if defect:
        files["train/good/00.png"] = png(part(0, defect=True))
    source, dataset = folder / "set", folder / "dataset"
    write_files(source, files)
    ingest(name="discs", source=str(source), dataset=dataset)
    data = Dataset(dataset)
    geometry = geometry or Geometry()
    return judge(data.manifest, inspect_samples(data, geometry, ()), geometry, 0.1).unusual


def test_a_defect_among_the_normals_comes_first(tmp_path: Path) -> None:
    listed = unusual(tmp_path, 14)
    assert listed[0].path == "train/good/00.png"
    assert listed[0].deviation > 3 * abs(listed[1].deviation)
    assert len(listed) == LISTED
    assert all(normal.path.startswith("train/") for normal in listed)
    assert [normal.deviation for normal in listed] == sorted((normal.deviation for normal in listed), reverse=True)


def test_what_the_network_does_not_see_counts_for_nothing(tmp_path: Path) -> None:
    # The bar lies in rows 28 to 33.
    below = unusual(tmp_path, 14, Geometry(region=(0, 40, 64, 64)))
    assert below[0].deviation < 4
    without = unusual(tmp_path / "without", 14, Geometry(region=(0, 40, 64, 64)), defect=False)
    assert {normal.path for normal in below[:3]} & {normal.path for normal in without[:4]}


def test_of_few_normals_none_is_listed(tmp_path: Path) -> None:
    assert unusual(tmp_path, FEWEST - 1) == ()


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (64, 64)])
def test_any_size_is_described(size: tuple[int, int]) -> None:
    description = describe(pictured(reduced(Image.fromarray(np.full((*size, 3), 90, np.uint8)))))
    assert description.shape == (GRID * GRID, CHANNELS)
    assert np.isfinite(description).all()


def test_seen_cells() -> None:
    assert seen_cells(Geometry(), (100, 200)).all()
    right_half = seen_cells(Geometry(region=(100, 0, 200, 100)), (100, 200)).reshape(GRID, GRID)
    assert not right_half[:, : GRID // 2].any()
    assert right_half[:, GRID // 2 :].all()


def test_equal_scores_have_no_deviation() -> None:
    assert np.array_equal(robust_deviations(np.full(5, 2.0)), np.zeros(5))


@pytest.mark.parametrize("grid", [GRID, 32])
def test_photographs_are_described_alone_as_among_others(grid: int) -> None:
    draws = np.random.default_rng(0)
    pictures = [pictured(Image.fromarray(draws.integers(0, 256, (40, 50, 3), dtype=np.uint8))) for _ in range(11)]
    together = describe_all(pictures, grid)
    assert all(np.array_equal(one, describe(picture, grid)) for one, picture in zip(together, pictures, strict=True))


@pytest.mark.parametrize("size", [(256, 256), (64, 64), (128, 128), (32, 64), (300, 256), (256, 128), (48, 64)])
def test_the_quick_ways_to_a_picture_give_the_same_pixels(size: tuple[int, int]) -> None:
    photograph = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    assert pictured(photograph).tobytes() == photograph.resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()
    grey = photograph.convert("L")
    assert pictured(grey).tobytes() == pictured(grey.convert("RGB")).tobytes()
    assert np.array_equal(thumbnail(grey), thumbnail(grey.convert("RGB")))
