"""Parts that lie turned and shifted are brought into the reference's place, and maps back into their own."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from moved_parts import HEIGHT, WIDTH, part, stripe_of, write_moved_parts
from step_calls import check_dataset, ingest
from vqi.dataset.alignment import Alignment, Reference
from vqi.dataset.geometry import Geometry
from vqi.dataset.reader import Dataset
from vqi.platform.errors import BadInput

REFERENCE = Reference.of("train/good/0.png", part(), 0.2, 15)


@pytest.mark.parametrize("angle", [-14.0, -6.5, 0.0, 3.0, 12.0])
@pytest.mark.parametrize(("across", "down"), [(0.0, 0.0), (9.0, -7.0), (-12.5, 4.0)])
def test_a_turn_and_a_shift_are_known_to_a_pixel(angle: float, across: float, down: float) -> None:
    alignment = REFERENCE.align(part(angle, across, down, seed=3))
    assert alignment.matrix is not None
    assert alignment.quality > 0.9
    assert alignment.angle == pytest.approx(angle, abs=1.0)
    a, b, c, d, e, f = alignment.matrix
    middle = (a * WIDTH / 2 + b * HEIGHT / 2 + c, d * WIDTH / 2 + e * HEIGHT / 2 + f)
    assert middle == pytest.approx((WIDTH / 2 + across, HEIGHT / 2 + down), abs=1.0)


def test_parts_may_lie_in_any_direction() -> None:
    reference = replace(REFERENCE, angle=180.0)
    for angle in (90.0, 171.0, -120.0):
        assert reference.align(part(angle, 3, 2)).angle == pytest.approx(angle, abs=1.5)


def test_an_aligned_photograph_looks_like_the_reference_and_its_mask_fits() -> None:
    moved = part(9.0, 8.0, -5.0, seed=1, stripe=True)
    alignment = REFERENCE.align(moved)
    aligned = REFERENCE.apply(alignment, moved)
    straight = part(stripe=True)
    # One pixel in ten lies on an edge.
    assert np.mean(np.abs(aligned.astype(int) - straight).max(axis=2) > 60) < 0.06
    assert np.mean(np.abs(moved.astype(int) - straight).max(axis=2) > 60) > 0.12
    mask = alignment.apply_labels(stripe_of(9.0, 8.0, -5.0))
    union = mask | stripe_of(0, 0, 0)
    assert np.count_nonzero(mask & stripe_of(0, 0, 0)) > 0.75 * np.count_nonzero(union)


def test_what_a_move_leaves_empty_is_taken_from_the_reference() -> None:
    moved = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    aligned = REFERENCE.apply(Alignment((1.0, 0.0, 6.0, 0.0, 1.0, -4.0), 1.0), moved)
    assert (aligned[4:, :-6] == 90).all()
    assert np.array_equal(aligned[:4], REFERENCE.whole[:4])
    assert np.array_equal(aligned[:, -6:], REFERENCE.whole[:, -6:])
    assert np.abs(REFERENCE.whole.astype(int) - part()).max() <= 1


def test_labels_keep_their_names() -> None:
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    labels[20:30, 20:30], labels[40:50, 60:70] = 7, 70_000
    moved = Alignment((1.0, 0.0, 5.0, 0.0, 1.0, -3.0), 1.0).apply_labels(labels)
    assert set(np.unique(moved)) == {0, 7, 70_000}
    assert moved[23, 15] == 7


def test_a_map_returns_to_the_photograph() -> None:
    alignment = REFERENCE.align(part(9.0, 8.0, -5.0))
    values = np.zeros((HEIGHT, WIDTH), np.float32)
    values[stripe_of(0, 0, 0)] = 1
    values[:2] = np.nan
    back = alignment.invert_map(values)
    assert back.shape == values.shape
    seen = ~np.isnan(back)
    assert 0.8 < seen.mean() < 1
    mask = stripe_of(9.0, 8.0, -5.0)
    assert np.count_nonzero((back > 0.5) & mask) > 0.75 * np.count_nonzero((back > 0.5) | mask)


def test_what_does_not_move_keeps_every_pixel() -> None:
    alignment = REFERENCE.align(part())
    assert alignment.matrix == (1, 0, 0, 0, 1, 0)
    assert np.array_equal(REFERENCE.apply(alignment, part()), part())
    values = np.random.default_rng(0).random((HEIGHT, WIDTH)).astype(np.float32)
    assert np.array_equal(alignment.invert_map(values), values)


def test_what_cannot_be_aligned_says_why() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for picture, reason in (
        (noise, "resembles the reference too little"),
        (np.full((HEIGHT, WIDTH, 3), 90, np.uint8), "resembles the reference too little"),
        (part()[:-2], "has 96 x 70 pixels and the reference 96 x 72"),
    ):
        alignment = REFERENCE.align(picture)
        assert alignment.matrix is None
        assert reason in alignment.reason
        assert REFERENCE.apply(alignment, picture) is picture


def test_no_part_is_moved_beyond_the_limit() -> None:
    strict = replace(REFERENCE, shift=0.02, angle=3.0)
    alignment = strict.align(part(12.0, 12.0, 0.0))
    assert abs(alignment.angle) <= 3.01
    if alignment.matrix:
        a, b, c, d, e, f = alignment.matrix
        shift = (a * WIDTH / 2 + b * HEIGHT / 2 + c - WIDTH / 2, d * WIDTH / 2 + e * HEIGHT / 2 + f - HEIGHT / 2)
        assert np.hypot(*shift) <= 0.02 * WIDTH + 0.5


def test_the_same_photograph_lies_the_same_in_every_process() -> None:
    reference = Reference(**asdict(REFERENCE))
    picture = part(7.0, -3.0, 2.0, seed=5)
    assert reference.align(picture) == REFERENCE.align(picture)
    alignment = REFERENCE.align(picture)
    assert Alignment.from_dict(asdict(alignment)) == alignment


@pytest.mark.parametrize("picture", ["", "no base64!", "AAAA"])
def test_a_damaged_reference_is_one_sentence(picture: str) -> None:
    with pytest.raises(BadInput, match=r"reference photograph train/good/0\.png of image\.align is damaged"):
        replace(REFERENCE, picture=picture).align(part())


def test_a_set_is_aligned_once_and_says_what_could_not_be(tmp_path: Path) -> None:
    source = write_moved_parts(tmp_path / "parts")
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(source / "test" / "good" / "9.png")
    plain = ingest(name="parts", source=str(source), seed=0, dataset=tmp_path / "plain")
    manifest = ingest(name="parts", source=str(source), seed=0, dataset=tmp_path / "dataset", align="auto")
    data = Dataset(tmp_path / "dataset")
    assert data.manifest == manifest
    assert manifest.reference is not None
    assert manifest.fingerprint != plain.fingerprint
    assert all(sample.alignment is None for sample in plain.samples)
    failed = [s.path for s in manifest.samples if s.alignment is not None and s.alignment.matrix is None]
    assert failed == ["test/good/9.png"]
    (note,) = [note for note in manifest.notes if note.startswith("Photographs are aligned to train/good/")]
    assert "1 photograph could not be, and is used as it is (test/good/9.png)" in note
    geometry = Geometry(size=(HEIGHT, WIDTH))
    sample = next(sample for sample in manifest.samples if sample.path == "test/stripe/3.png")
    mask = data.mask(sample)
    assert mask is not None
    seen, moved = data.seen(sample, geometry), data.aligned_labels(sample, mask)
    assert np.count_nonzero(moved & (seen[..., 1] < 60) & (seen[..., 0] > 200)) > 0.7 * np.count_nonzero(moved)
    verdict = check_dataset(
        dataset=tmp_path / "dataset", page=tmp_path / "p.html", verdict=tmp_path / "v.json", geometry=geometry
    )
    (finding,) = [finding for finding in verdict.findings if finding.code == "not-aligned"]
    assert "1 image (1 of them good) could not be aligned to" in finding.sentence


def test_a_reference_that_the_set_lacks_is_named(tmp_path: Path) -> None:
    source = write_moved_parts(tmp_path / "parts")
    with pytest.raises(
        BadInput, match=r"image\.align is 'train/good/00\.png', which is not a photograph.*train/good/0"
    ):
        ingest(name="parts", source=str(source), seed=0, dataset=tmp_path / "dataset", align="train/good/00.png")
    assert not (tmp_path / "dataset").exists()
