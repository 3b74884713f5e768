"""Augmentations of whole batches: every image gets its own random numbers, all operations are tensor operations over
the batch.

Images are float32 [n, 3, H, W] in [0, 1]. Random numbers come from the generator that is handed in and from nowhere
else.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-R BT.601, as Pillow's and torchvision's grey has it.
LUMA = (0.299, 0.587, 0.114)
# RGB to luma and the two axes of chroma, in whose plane a hue is an angle (NTSC's YIQ).
_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


def uniform(n: int, low: float, high: float, random: torch.Generator) -> Tensor:
    """float32 [n], uniform in [low, high)."""
    return low + (high - low) * torch.rand(n, generator=random)


def log_uniform(n: int, low: float, high: float, random: torch.Generator) -> Tensor:
    """float32 [n], their logarithms uniform between those of `low` and `high`."""
    return uniform(n, math.log(low), math.log(high), random).exp()


def chance(n: int, probability: float, random: torch.Generator) -> Tensor:
    """bool [n], each true with `probability`."""
    return torch.rand(n, generator=random) < probability


def random_resized_crop(images: Tensor, scale: tuple[float, float], flip: float, random: torch.Generator) -> Tensor:
    """A rectangle of each image at the size of the whole, mirrored by chance: its area in `scale`, a share; its aspect
    ratio in [3/4, 4/3].

    A crop is never larger than what it is resized to, so bilinear sampling needs no antialiasing. Rectangles that do
    not fit are cut to the image.
    """
    n, _, height, width = images.shape
    area, ratio = uniform(n, *scale, random), log_uniform(n, 3 / 4, 4 / 3, random)
    # As shares of the image's sides; `ratio` is in pixels.
    across = (area * ratio * height / width).sqrt().clamp(max=1)
    down = (area / ratio * width / height).sqrt().clamp(max=1)
    left, top = ((1 - side) * torch.rand(n, generator=random) for side in (across, down))
    mirrored = torch.where(chance(n, flip, random), -1.0, 1.0)
    return _sample(images, 2 * left + across - 1, 2 * top + down - 1, mirrored * across, down)


def _sample(images: Tensor, x: Tensor, y: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Rectangles with their centre at (`x`, `y`) and those sides, in the coordinates of grid_sample ([-1, 1] over the
    image)."""
    zero = torch.zeros_like(x)
    matrices = torch.stack([torch.stack([across, zero, x], dim=1), torch.stack([zero, down, y], dim=1)], dim=1)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def colour_jitter(
    images: Tensor,
    strength: float,
    hue: float,
    random: torch.Generator,
    *,
    probability: float = 1.0,
    grey: float = 0.0,
    where: Tensor | None = None,
) -> Tensor:
    """Brightness, contrast and saturation by factors in [1 - strength, 1 + strength], the hue turned by up to `hue` of
    the circle either way.

    Applied to each image with `probability`; with the chance `grey` its colour goes altogether. Contrast pulls towards
    the image's mean grey, within `where` (float32 [n, 1, H, W], weights) if that is given. All of these are affine in
    RGB, so they are one 3 x 4 matrix an image, in this order, and values are clipped once, at the end; hue turns in the
    plane of constant luma rather than in HSV.
    """
    n = len(images)
    low = max(0.0, 1 - strength)
    brightness, contrast, saturation = (uniform(n, low, 1 + strength, random).view(n, 1, 1) for _ in range(3))
    angle = 2 * math.pi * uniform(n, -hue, hue, random)
    jittered, without_colour = chance(n, probability, random), chance(n, grey, random)

    luma, identity = torch.tensor(LUMA).view(1, 1, 3), torch.eye(3).expand(n, 3, 3)
    greying = torch.ones(1, 3, 1) @ luma
    colour = _hue_rotations(angle) @ (saturation * identity + (1 - saturation) * greying) * contrast * brightness
    mean_grey = (luma @ _mean_colour(images, where)).view(n, 1, 1)
    offset = ((1 - contrast) * brightness * mean_grey).expand(n, 3, 1)  # grey, which saturation and hue leave as it is
    colour, offset = torch.where(jittered.view(n, 1, 1), colour, identity), offset * jittered.view(n, 1, 1)
    colour = torch.where(without_colour.view(n, 1, 1), greying @ colour, colour)
    return torch.baddbmm(offset, colour, images.flatten(2)).clamp_(0, 1).view_as(images)


def _mean_colour(images: Tensor, where: Tensor | None) -> Tensor:
    """float32 [n, 3, 1]."""
    if where is None:
        return images.mean(dim=(2, 3)).unsqueeze(2)
    return ((images * where).sum(dim=(2, 3)) / where.sum(dim=(2, 3)).clamp(min=1e-6)).unsqueeze(2)


def _hue_rotations(angle: Tensor) -> Tensor:
    """Matrices [n, 3, 3] that turn the chroma of RGB by `angle` [n], radians, and keep its luma."""
    to_yiq = torch.tensor(_YIQ)
    cosine, sine = angle.cos(), angle.sin()
    turn = torch.zeros(len(angle), 3, 3)
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = cosine, -sine, sine, cosine
    return torch.linalg.inv(to_yiq) @ turn @ to_yiq


def gaussian_blur(images: Tensor, sigma: tuple[float, float], probability: float, random: torch.Generator) -> Tensor:
    """Each image smoothed, with `probability`, by a Gaussian of a `sigma` of its own in that range, pixels; reflected
    at the borders."""
    n, channels = images.shape[:2]
    sigmas = uniform(n, *sigma, random)
    chosen = chance(n, probability, random)
    count = int(chosen.sum())
    if not count:
        return images
    radius = min(math.ceil(3 * sigma[1]), *(side - 1 for side in images.shape[2:]))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernels = torch.exp(-0.5 * (offsets / sigmas[chosen, None]) ** 2)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)[:, None]
    # Every image a group of its own: each has its own kernel.
    planes = F.pad(images[chosen].flatten(0, 1)[None], (radius,) * 4, mode="reflect")
    planes = F.conv2d(planes, kernels[:, :, :, None], groups=count * channels)
    planes = F.conv2d(planes, kernels[:, :, None, :], groups=count * channels)
    blurred = images.clone()
    blurred[chosen] = planes[0].unflatten(0, (count, channels))
    return blurred
