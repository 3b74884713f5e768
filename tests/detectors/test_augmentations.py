"""Batched augmentations: each against the plain computation for one image."""

import colorsys

import numpy as np
import pytest
import torch
from normals import smooth_images
from scipy.ndimage import gaussian_filter

from vqi.detectors.augmentations import LUMA, colour_jitter, gaussian_blur, random_resized_crop


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "augmented",
    [
        lambda images, random: random_resized_crop(images, (0.2, 1.0), 0.5, random),
        lambda images, random: colour_jitter(images, 0.4, 0.1, random, probability=0.8, grey=0.2),
        lambda images, random: gaussian_blur(images, (0.1, 2.0), 0.5, random),
    ],
    ids=["crop", "colour", "blur"],
)
def test_the_generator_decides_all_images_differ_and_the_input_is_unchanged(augmented):
    images = smooth_images(1, 48).expand(6, -1, -1, -1).contiguous()
    before = images.clone()
    torch.manual_seed(1)
    first = augmented(images, seeded(3))
    torch.manual_seed(2)
    assert torch.equal(first, augmented(images, seeded(3)))
    assert not torch.equal(first, augmented(images, seeded(4)))
    assert torch.equal(images, before)
    assert first.shape == images.shape
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1
    assert not torch.equal(first, first[:1].expand_as(first))


def test_a_crop_of_everything_is_the_image_or_its_mirror_image():
    images = smooth_images(8, 32)
    crops = random_resized_crop(images, (1.0, 1.0), 0.5, seeded())
    # Aspect ratios other than 1 are cut to the image; the widest are the whole of it along one side.
    mirrored = sum(
        (crop - image.flip(2)).abs().mean() < (crop - image).abs().mean()
        for crop, image in zip(crops, images, strict=True)
    )
    assert 0 < mirrored < 8


def test_crops_show_the_configured_share_of_the_image():
    columns = torch.linspace(0, 1, 64).expand(200, 3, 64, 64)
    crops = random_resized_crop(columns, (0.2, 1.0), 0.0, seeded())
    rows = random_resized_crop(columns.mT.contiguous(), (0.2, 1.0), 0.0, seeded())
    shares = (crops[:, 0, 0, -1] - crops[:, 0, 0, 0]) * (rows[:, 0, -1, 0] - rows[:, 0, 0, 0])
    assert 0.15 < float(shares.min()) < 0.3
    assert 0.85 < float(shares.max()) <= 1.0
    assert float(shares.mean()) == pytest.approx(0.6, abs=0.05)


def test_brightness_contrast_and_saturation_keep_to_their_range_and_one_image_follows_the_formula():
    images = 0.4 + 0.2 * smooth_images(32, 16)
    changed = colour_jitter(images, 0.2, 0.0, seeded())
    # Invert it for the first image: out = s (c b x + (1 - c) b m) + (1 - s) grey(c b x + (1 - c) b m), with m the mean
    # grey of x.
    x, y = images[0].double().flatten(1), changed[0].double().flatten(1)
    luma = torch.tensor(LUMA, dtype=torch.float64)
    grey_slope = ((luma @ y - (luma @ y).mean()) / (luma @ x - (luma @ x).mean())).mean()  # c b
    brightness = (luma @ y).mean() / (luma @ x).mean()
    saturation = ((y[0] - luma @ y) / (x[0] - luma @ x)).mean() / grey_slope
    for factor in (brightness, grey_slope / brightness, saturation):
        assert 0.8 <= float(factor) <= 1.2
    before_saturation = grey_slope * x + (brightness - grey_slope) * (luma @ x).mean()
    expected = saturation * before_saturation + (1 - saturation) * (luma @ before_saturation)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    assert (changed.mean(dim=(1, 2, 3)) / images.mean(dim=(1, 2, 3))).std() > 0.05


def test_hue_turns_keep_the_luma_and_a_third_of_the_circle_takes_red_towards_green():
    images = 0.3 + 0.3 * smooth_images(16, 16)
    turned = colour_jitter(images, 0.0, 0.05, seeded())
    luma = torch.tensor(LUMA).view(1, 3, 1, 1)
    torch.testing.assert_close((turned * luma).sum(1), (images * luma).sum(1), atol=1e-3, rtol=0)
    red = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1).expand(64, 3, 2, 2).contiguous()
    hues = [colorsys.rgb_to_hsv(*picture[:, 0, 0].tolist())[0] for picture in colour_jitter(red, 0.0, 0.1, seeded())]
    centred = [hue - (hue > 0.5) for hue in hues]
    assert min(centred) < -0.07
    assert max(centred) > 0.07
    assert max(map(abs, centred)) < 0.15


def test_contrast_pulls_towards_the_mean_within_the_mask():
    images = torch.zeros(4, 3, 8, 8)
    images[:, :, :, :4] = 0.8
    where = (images[:, :1] > 0).float()
    changed = colour_jitter(images, 0.5, 0.0, seeded(1), where=where)
    # Within the mask all is of one grey, which contrast leaves alone, so only brightness moves it; outside, black is
    # pulled towards that grey.
    assert (changed[:, :, :, 4:].std(dim=(1, 2, 3)) < 1e-6).all()
    inside = changed[:, 0, 0, 0] / 0.8
    assert ((inside >= 0.5 - 1e-6) & (inside <= 1.25 + 1e-6)).all()


def test_grey_takes_all_colour_away():
    images = smooth_images(40, 8)
    changed = colour_jitter(images, 0.0, 0.0, seeded(), grey=0.5)
    grey = (changed.amax(dim=1) - changed.amin(dim=1)).amax(dim=(1, 2)) < 1e-5
    assert 10 < int(grey.sum()) < 30
    torch.testing.assert_close(changed[~grey], images[~grey], atol=1e-6, rtol=0)


def test_blur_is_a_gaussian():
    images = smooth_images(3, 40)
    changed = gaussian_blur(images, (1.5, 1.5), 1.0, seeded())
    # SciPy's `mirror` is torch's `reflect`; five pixels on either side, as three sigma round up to.
    expected = np.stack(
        [[gaussian_filter(plane, 1.5, mode="mirror", radius=5) for plane in image] for image in images.double().numpy()]
    )
    np.testing.assert_allclose(changed.numpy(), expected, atol=1e-5)


def test_about_the_configured_share_is_blurred_tiny_images_too():
    images = smooth_images(60, 16)
    changed = gaussian_blur(images, (0.5, 2.0), 0.5, seeded())
    touched = (changed != images).flatten(1).any(dim=1)
    assert 20 < int(touched.sum()) < 40
    assert gaussian_blur(smooth_images(2, 8)[:, :, :4, :4], (2.0, 2.0), 1.0, seeded()).shape == (2, 3, 4, 4)
    assert torch.equal(gaussian_blur(images, (1.0, 1.0), 0.0, seeded()), images)
