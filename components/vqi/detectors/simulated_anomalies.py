"""Simulated anomalies: Zavrtanik et al. (DRÆM), arXiv 2108.07610, section 3.3, for a whole batch at once.

All of it is deterministic for the generator handed in, takes float32 images [N, 3, H, W] in [0, 1] on the CPU, and
gives back the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vqi.detectors.learner import TrainingImages
from vqi.detectors.perlin import perlin_noise

CHANGES = 3
"""How many of CHANGES_KNOWN a texture goes through (section 3.3)."""
LEVELS = 256


def simulate(
    images: Tensor,
    textures: TrainingImages | None,
    *,
    anomalous: float,
    opacity: float,
    threshold: float,
    finest: int,
    random: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Images, a share `anomalous` of them with an anomaly, and the anomalies' masks, float32 [N, 1, H, W].

    Equation 5: I_a = (1 - M_a) I + (1 - b) M_a I + b M_a A, its opacity b between `opacity` and 1. `textures` are what
    A is taken from; where there are none, the images themselves and procedural texture.
    """
    changed, mask = images.clone(), torch.zeros(len(images), 1, *images.shape[-2:])
    chosen = torch.nonzero(torch.rand(len(images), generator=random) < anomalous)[:, 0]
    if len(chosen) == 0:
        return changed, mask
    original = images[chosen]
    mask[chosen] = anomaly_masks(len(chosen), (images.shape[2], images.shape[3]), threshold, finest, random)
    texture = alter(_textures(images, len(chosen), textures, random), random)
    b = opacity + (1 - opacity) * torch.rand(len(chosen), 1, 1, 1, generator=random)
    changed[chosen] = torch.lerp(original, texture, b * mask[chosen])
    return changed, mask


def anomaly_masks(count: int, size: tuple[int, int], threshold: float, finest: int, random: torch.Generator) -> Tensor:
    """Where Perlin noise, turned by up to 90 degrees, exceeds `threshold`: float32 [count, 1, H, W] of 0 and 1, none of
    them empty.

    Noise that stays below is stretched to [-1, 1].
    """
    cells = 2 ** torch.randint(0, finest + 1, (count, 2), generator=random)
    noise = move(perlin_noise(size, cells, random)[:, None], _turns(count, 90.0, random), padding="zeros")
    low, high = noise.amin(dim=(1, 2, 3), keepdim=True), noise.amax(dim=(1, 2, 3), keepdim=True)
    stretched = 2 * (noise - low) / (high - low).clamp(min=1e-6) - 1
    return (torch.where(high > threshold, noise, stretched) > threshold).float()


def turn(images: Tensor, share: float, degrees: float, random: torch.Generator) -> Tensor:
    """A `share` of the images, turned by up to `degrees`; what comes in from outside is mirrored."""
    angles = _turns(len(images), degrees, random)
    chosen = torch.rand(len(images), generator=random) < share
    return _where(chosen, images, lambda some: move(some, angles[chosen])) if degrees else images


def _textures(images: Tensor, count: int, textures: TrainingImages | None, random: torch.Generator) -> Tensor:
    """`count` pictures to fill anomalies with."""
    if textures is not None:
        return textures.load(torch.randint(len(textures), (count,), generator=random).tolist())
    others = images[torch.randint(len(images), (count,), generator=random)]
    # Turned any way and up to four times as large or as small: what is normal in its place is not elsewhere.
    elsewhere = move(
        others,
        _turns(count, 180.0, random),
        4 ** _uniform(count, -1, 1, random),
        2 * torch.rand(count, 2, generator=random) - 1,
    )
    procedural = torch.rand(count, generator=random) < 0.5
    return torch.where(
        procedural[:, None, None, None], _procedural(count, (images.shape[2], images.shape[3]), random), elsewhere
    )


def _procedural(count: int, size: tuple[int, int], random: torch.Generator) -> Tensor:
    """Two random colours, mixed by Perlin noise of any scale, soft or hard, with some grain."""
    cells = 2 ** torch.randint(0, 6, (count, 2), generator=random)
    hardness = 2 ** _uniform(count, 0, 5, random)
    share = torch.sigmoid(hardness[:, None, None] * perlin_noise(size, cells, random))[:, None]
    first, second = torch.rand(2, count, 3, 1, 1, generator=random)
    grain = _uniform(count, 0, 0.15, random).view(-1, 1, 1, 1) * torch.randn(count, 1, *size, generator=random)
    return (torch.lerp(first, second, share) + grain).clamp(0, 1)


def alter(images: Tensor, random: torch.Generator) -> Tensor:
    """Each image through three of the known changes."""
    picks = torch.rand(len(images), len(CHANGES_KNOWN), generator=random).argsort(dim=1)[:, :CHANGES]
    for number, change in enumerate(CHANGES_KNOWN):
        images = _where((picks == number).any(dim=1), images, partial(change, random=random))
    return images


def move(
    images: Tensor,
    angles: Tensor,
    scales: Tensor | None = None,
    shifts: Tensor | None = None,
    padding: str = "reflection",
) -> Tensor:
    """Images turned by `angles` [N] in radians about their centres, enlarged by `scales` [N], shifted by `shifts` [N,
    2] of half their size."""
    height, width = images.shape[-2:]
    sine, cosine = angles.sin(), angles.cos()
    matrix = torch.stack(
        [torch.stack([cosine, -sine * height / width], 1), torch.stack([sine * width / height, cosine], 1)], 1
    )
    if scales is not None:
        matrix = matrix / scales[:, None, None]
    offset = torch.zeros(len(images), 2) if shifts is None else shifts
    grid = F.affine_grid(torch.cat([matrix, offset[:, :, None]], dim=2), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _where(chosen: Tensor, images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The images, the chosen ones changed."""
    if not chosen.any():
        return images
    result = images.clone()
    result[chosen] = change(images[chosen])
    return result


def _uniform(count: int, low: float, high: float, random: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=random)


def _turns(count: int, degrees: float, random: torch.Generator) -> Tensor:
    return _uniform(count, -math.radians(degrees), math.radians(degrees), random)


def _gamma(images: Tensor, random: torch.Generator) -> Tensor:
    """Every channel to a power between 1/2 and 2."""
    return images ** (2 ** _uniform(3 * len(images), -1, 1, random)).view(-1, 3, 1, 1)


def _brightness(images: Tensor, random: torch.Generator) -> Tensor:
    gain = _uniform(len(images), 0.8, 1.2, random).view(-1, 1, 1, 1)
    return (gain * images + _uniform(len(images), -30 / 255, 30 / 255, random).view(-1, 1, 1, 1)).clamp(0, 1)


def _sharpness(images: Tensor, random: torch.Generator) -> Tensor:
    """From smoothed to the detail twice as strong."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    smooth = F.avg_pool2d(padded, 3, stride=1)
    return torch.lerp(smooth, images, 2 * torch.rand(len(images), 1, 1, 1, generator=random)).clamp(0, 1)


def _colour(images: Tensor, random: torch.Generator) -> Tensor:
    """Hue turned by up to 70 degrees, about the grey axis, and up to half again the saturation or none."""
    angles = _turns(len(images), 70.0, random)
    saturation = _uniform(len(images), 0, 1.5, random)
    grey = torch.full((3, 3), 1 / 3)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    rotation = angles.cos().view(-1, 1, 1) * (torch.eye(3) - grey) + angles.sin().view(-1, 1, 1) * cross
    matrix = grey + saturation.view(-1, 1, 1) * rotation
    return (matrix @ images.flatten(2)).view_as(images).clamp(0, 1)


def _solarise(images: Tensor, random: torch.Generator) -> Tensor:
    """Values above a threshold inverted."""
    threshold = _uniform(len(images), 32 / 255, 128 / 255, random).view(-1, 1, 1, 1)
    return torch.where(images > threshold, 1 - images, images)


def _posterise(images: Tensor, random: torch.Generator) -> Tensor:
    """1 to 7 bits of 8."""
    step = (2.0 ** torch.randint(1, 8, (len(images), 1, 1, 1), generator=random)) / LEVELS
    return (images / step).floor() * step


def _invert(images: Tensor, random: torch.Generator) -> Tensor:
    return 1 - images


def _stretch(images: Tensor, random: torch.Generator) -> Tensor:
    """Every channel to the whole range."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    return (images - low) / (high - low).clamp(min=1 / LEVELS)


def _equalise(images: Tensor, random: torch.Generator) -> Tensor:
    """Every channel's histogram flat."""
    levels = (images * (LEVELS - 1)).long().flatten(0, 1).flatten(1)
    planes, pixels = levels.shape
    histogram = torch.bincount(
        (levels + LEVELS * torch.arange(planes)[:, None]).flatten(), minlength=LEVELS * planes
    ).view(planes, LEVELS)
    return (histogram.cumsum(dim=1).float() / pixels).gather(1, levels).view_as(images)


def _rotate(images: Tensor, random: torch.Generator) -> Tensor:
    return move(images, _turns(len(images), 45.0, random))


CHANGES_KNOWN = (
    _gamma,
    _brightness,
    _sharpness,
    _colour,
    _solarise,
    _posterise,
    _invert,
    _stretch,
    _equalise,
    _rotate,
)
