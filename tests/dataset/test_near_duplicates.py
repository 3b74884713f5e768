"""Near copies: what is one photograph twice, and what only looks alike."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from vqi.dataset.description import reduced
from vqi.dataset.generator.part import photograph, position_part
from vqi.dataset.near_duplicates import groups, near_duplicates, thumbnail

PRECISE, LOOSE = 0.03, 1.0


def parts(count: int, play: float, side: int = 192) -> list[np.ndarray]:
    return [
        photograph(
            position_part((side, side), np.random.default_rng([1, n, 0]), play), np.random.default_rng([1, n, 1])
        )
        for n in range(count)
    ]


def saved_again(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file))


def moved(image: np.ndarray) -> np.ndarray:
    """By 1 % to the right and down."""
    by = round(0.01 * len(image))
    return np.pad(image, ((by, 0), (by, 0), (0, 0)), mode="edge")[:-by, :-by]


COPIES = {
    "saved again": saved_again,
    "moved": moved,
    "brighter": lambda image: np.clip(image * 1.05, 0, 255).astype(np.uint8),
    "darker": lambda image: (image * 0.8).astype(np.uint8),
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "turned": lambda image: np.rot90(image),
    "half-turned": lambda image: np.rot90(image, 2),
    "smaller": lambda image: np.asarray(Image.fromarray(image).reduce(2)),
    "noisier": lambda image: np.clip(image + np.random.default_rng(0).normal(0, 3, image.shape), 0, 255).astype(
        np.uint8
    ),
}


def pairs_of(images: list[np.ndarray]) -> list[tuple[int, int]]:
    return near_duplicates(
        np.stack([thumbnail(reduced(Image.fromarray(np.ascontiguousarray(i)))) for i in images]),
        np.array([i.shape[1] / i.shape[0] for i in images]),
    )


@pytest.fixture(scope="module", params=[PRECISE, LOOSE], ids=["precise fixture", "loose fixture"])
def photographs(request: pytest.FixtureRequest) -> list[np.ndarray]:
    return parts(40, request.param)


def test_different_parts_of_one_fixture_are_no_copies(photographs: list[np.ndarray]) -> None:
    assert pairs_of(photographs) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_known(photographs: list[np.ndarray], kind: str) -> None:
    copies = [COPIES[kind](image) for image in photographs[:4]]
    assert sorted(pairs_of([*photographs, *copies])) == [(0, 40), (1, 41), (2, 42), (3, 43)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", COPIES)
def test_every_part_may_have_a_copy(photographs: list[np.ndarray], kind: str) -> None:
    copies = [COPIES[kind](image) for image in photographs[:20]]
    assert groups(pairs_of([*photographs[:20], *copies])) == [[number, number + 20] for number in range(20)]


@pytest.mark.slow
def test_copies_among_thousands() -> None:
    """Images that share one scene and differ in texture are no copies; one that was saved again or exposed otherwise
    is."""
    rng = np.random.default_rng(0)
    images = (rng.uniform(60, 190, (32, 32)) + rng.normal(0, 12, (3000, 32, 32))).astype(np.float32)
    images[2900] = images[17] + rng.uniform(-1, 1, (32, 32))
    images[2901] = images[18] * 0.8
    flat = np.ones(len(images))
    assert near_duplicates(images, flat) == [(17, 2900), (18, 2901)]
    flat[17] = 1.5
    assert near_duplicates(images, flat) == [(18, 2901)]


def test_a_long_photograph_and_its_quarter_turn() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (128, 256, 3), dtype=np.uint8) for _ in range(12)]
    assert pairs_of([*images, np.rot90(images[3])]) == [(3, 12)]


def test_copies_of_one_image_do_not_explode() -> None:
    image = thumbnail(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)))
    pairs = near_duplicates(np.repeat(image[None], 1500, axis=0), np.ones(1500))
    assert groups(pairs) == [list(range(1500))]
    assert len(pairs) == 1499


def test_blank_images_are_no_copies_of_each_other() -> None:
    assert near_duplicates(np.full((5, 32, 32), 9, dtype=np.float32), np.ones(5)) == []
    assert near_duplicates(np.zeros((0, 32, 32), dtype=np.float32), np.ones(0)) == []


def test_groups_join_pairs() -> None:
    assert groups([(4, 7), (1, 2), (7, 9), (2, 3)]) == [[1, 2, 3], [4, 7, 9]]


def test_in_a_large_set_copies_are_found_within_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many images as would be compared one with another, sorted into cells: the same copies."""
    random = np.random.default_rng(0)
    images = np.repeat(np.repeat(random.normal(120, 30, (600, 8, 8)), 4, axis=1), 4, axis=2).astype(np.float32)
    copies = [(3, 500), (4, 501), (5, 502)]
    images[500], images[501], images[502] = images[3] + 2, images[4][:, ::-1], images[5].T
    images[510:540] = images[7]  # thirty-one of one, joined by thirty pairs
    assert set(copies) < set(near_duplicates(images, np.ones(600)))
    monkeypatch.setattr("vqi.dataset.near_duplicates.MOST_COMPARED", 100)
    pairs = near_duplicates(images, np.ones(600))
    assert set(copies) < set(pairs)
    assert groups(pairs) == [[3, 500], [4, 501], [5, 502], [7, *range(510, 540)]]


def test_many_are_compared_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that lie in a file give the pairs of rows in memory."""
    from vqi.dataset import near_duplicates as module
    from vqi.dataset.file_rows import FileRows

    random = np.random.default_rng(0)
    thumbnails = random.normal(120, 30, (40, 32, 32)).astype(np.float32)
    thumbnails[31] = thumbnails[5] + random.normal(0, 1, (32, 32))
    monkeypatch.setattr(module, "MOST_COMPARED", 39)
    monkeypatch.setattr(module, "MOST_IN_MEMORY", 20)
    monkeypatch.setattr(module, "_PER_CELL", 8)
    monkeypatch.setattr("vqi.dataset.thumbnail_views.BLOCK", 16)
    rows = FileRows(32 * 32)
    rows.append(thumbnails[:7].reshape(7, -1))
    rows.append(thumbnails[7:].reshape(33, -1))
    assert (rows[np.array([3, 4, 30, 2])] == thumbnails[[3, 4, 30, 2]].reshape(4, -1)).all()
    assert near_duplicates(rows, np.ones(40)) == near_duplicates(thumbnails, np.ones(40)) == [(5, 31)]
    monkeypatch.setattr(module, "MOST_COMPARED", 40)
    assert near_duplicates(rows, np.ones(40)) == [(5, 31)]
