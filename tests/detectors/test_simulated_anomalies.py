"""Simulated anomalies: the noise against its definition, and what is promised of masks, textures and changes."""

from __future__ import annotations

import math

import pytest
import torch
from normals import TensorImages, smooth_images

from vqi.detectors.perlin import perlin_noise
from vqi.detectors.simulated_anomalies import CHANGES_KNOWN, alter, anomaly_masks, move, simulate, turn

SETTINGS = {"anomalous": 0.5, "opacity": 0.1, "threshold": 0.5, "finest": 5}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain_noise(height: int, width: int, angles: torch.Tensor, cells: tuple[int, int], row: int, column: int) -> float:
    """Perlin noise at one pixel, as the books have it: the four gradients around it, interpolated by the quintic along
    each axis."""
    y, x = row * cells[0] / height, column * cells[1] / width
    top, left = int(y), int(x)
    v, u = y - top, x - left

    def pull(a: int, b: int) -> float:
        angle = float(angles[top + a, left + b])
        return math.cos(angle) * (u - b) + math.sin(angle) * (v - a)

    def fade(t: float) -> float:
        return 6 * t**5 - 15 * t**4 + 10 * t**3

    upper = pull(0, 0) + fade(u) * (pull(0, 1) - pull(0, 0))
    lower = pull(1, 0) + fade(u) * (pull(1, 1) - pull(1, 0))
    return math.sqrt(2) * (upper + fade(v) * (lower - upper))


def test_noise_is_perlins_whatever_the_lattice():
    cells = torch.tensor([[1, 1], [4, 2], [8, 32]])
    noise = perlin_noise((48, 40), cells, seeded())
    angles = 2 * math.pi * torch.rand(3, 33, 33, generator=seeded())
    for image, row, column in [(0, 0, 0), (0, 31, 7), (1, 12, 39), (1, 47, 20), (2, 29, 13), (2, 47, 39)]:
        expected = plain_noise(48, 40, angles[image], tuple(cells[image].tolist()), row, column)
        assert float(noise[image, row, column]) == pytest.approx(expected, abs=1e-5)


def test_no_mask_is_empty_and_none_is_most_of_the_image():
    masks = anomaly_masks(200, (48, 64), 0.5, 5, seeded())
    assert masks.shape == (200, 1, 48, 64)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    shares = masks.mean(dim=(1, 2, 3))
    assert float(shares.min()) > 0
    assert float(shares.mean()) < 0.2


@pytest.mark.parametrize("textures", [None, TensorImages(smooth_images(5, seed=7))], ids=["own", "given"])
def test_an_image_changes_inside_its_mask_alone(textures):
    images = smooth_images(40)
    changed, mask = simulate(images, textures, **SETTINGS, random=seeded())
    inside = mask.expand_as(images) > 0
    assert torch.equal(changed[~inside], images[~inside])
    assert not torch.equal(changed[inside], images[inside])
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1
    assert 10 <= int((mask.amax(dim=(1, 2, 3)) > 0).sum()) <= 30


def test_the_share_and_the_opacity_are_the_configured_ones():
    images = torch.zeros(12, 3, 32, 32)
    white = TensorImages(torch.ones(1, 3, 32, 32))
    assert float(simulate(images, white, **SETTINGS | {"anomalous": 0.0}, random=seeded())[1].max()) == 0.0
    mask = simulate(images, white, **SETTINGS | {"anomalous": 1.0}, random=seeded())[1]
    assert bool((mask.amax(dim=(1, 2, 3)) == 1).all())
    # Only where the texture is wholly opaque is nothing of the image left, whatever the image.
    opaque = [
        simulate(images + level, white, **SETTINGS | {"anomalous": 1.0, "opacity": 1.0}, random=seeded())[0]
        for level in (0.0, 0.5)
    ]
    where = mask.expand_as(images) > 0
    torch.testing.assert_close(opaque[0][where], opaque[1][where])


def test_the_same_generator_gives_the_same_views_bit_for_bit():
    images = smooth_images(8)
    first, second = (simulate(turn(images, 0.5, 45.0, seeded(4)), None, **SETTINGS, random=seeded(5)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(simulate(images, None, **SETTINGS, random=seeded(6))[0], first[0])


@pytest.mark.parametrize("change", CHANGES_KNOWN, ids=lambda change: change.__name__)
def test_a_change_keeps_to_the_range_and_to_its_own_image(change):
    images = smooth_images(6)
    changed = change(images, seeded())
    assert changed.shape == images.shape
    assert changed.dtype == torch.float32
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1 + 1e-6
    assert bool(((changed - images).abs().amax(dim=(1, 2, 3)) > 1e-3).any())
    other = images.clone()
    other[3] = 1 - other[3].flip(1)
    again = change(other, seeded())
    assert torch.equal(again[[0, 1, 2, 4, 5]], changed[[0, 1, 2, 4, 5]])


def test_three_changes_are_made_to_every_image():
    images = smooth_images(30)
    assert bool(((alter(images, seeded()) - images).abs().amax(dim=(1, 2, 3)) > 1e-3).all())


def test_turning_moves_the_content():
    images = torch.zeros(1, 3, 40, 60)
    images[:, :, 18:22, 40:44] = 1.0  # right of the centre by 12 pixels
    quarter = move(images, torch.tensor([math.pi / 2]))
    row, column = divmod(int(quarter[0, 0].argmax()), 60)
    assert abs(row - 20) in (10, 11, 12, 13, 14)
    assert column in (28, 29, 30, 31)
    torch.testing.assert_close(move(images, torch.zeros(1)), images, atol=1e-5, rtol=0)
    assert turn(images, 1.0, 0.0, seeded()) is images
