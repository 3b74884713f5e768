"""The weightless backbone: a fixed bank of oriented filters that needs no weights, no download and no licence.

docs/filterbank.md has the equations, what was measured and where it is weak.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 8
"""Pixels of the image a position of every node stands for."""
OCTAVES = 3
ORIENTATIONS = 8
WAVELENGTHS = (4.0, 4.0 * math.sqrt(2.0))
"""Pixels of the octave's own grid a period of the Gabor filters is long."""
EXPOSURE = 0.4
"""The mean that every image is brought to by one gain, so that another exposure is not an anomaly."""
DARKNESS = 0.02
"""Added to an image's mean before it divides: what is nearly black is not blown up."""
CONTRAST_FLOOR = 1 / 255
"""The contrast below which the logarithm flattens: one grey level of an 8-bit photograph."""
MEAN_WEIGHT = 2.0
"""The weight of a local mean beside a logarithm of contrast."""

_OPPONENTS = ((1 / 3, 1 / 3, 1 / 3), (1 / 2, -1 / 2, 0.0), (1 / 4, 1 / 4, -1 / 2))


class FilterBank(nn.Module):
    """Log contrasts of luminance and two opponent colours by octave, wavelength and orientation, and their local means,
    at one exposure.

    `forward`: float32 [N, 3, H, W] in [0, 1], H and W at least 32 -> a map [N, channels, ceil(H / 8), ceil(W / 8)] by
    node. The nodes are octaves, fine to coarse, and all have the same grid. A position of it stands for the 8 x 8
    pixels of its cell: all filters have an even number of taps, so that whatever they take every second pixel of lies
    in the middle between two, and every feature in the middle of its cell. Nothing in it is learned, and no image
    depends on the others of its batch.
    """

    opponents: Tensor
    gabors: Tensor
    blur: Tensor
    nodes: tuple[str, ...] = tuple(f"octave{number}" for number in range(1, OCTAVES + 1))

    def __init__(self) -> None:
        super().__init__()
        self.channels = dict.fromkeys(self.nodes, 3 * (len(WAVELENGTHS) * ORIENTATIONS + 1))
        self.channels[self.nodes[0]] -= 2 * len(WAVELENGTHS) * ORIENTATIONS
        self.register_buffer("opponents", torch.tensor(_OPPONENTS)[:, :, None, None], persistent=False)
        self.register_buffer("gabors", gabor_pairs(), persistent=False)
        binomial = torch.tensor([1.0, 5.0, 10.0, 10.0, 5.0, 1.0]) / 32
        self.register_buffer("blur", (binomial[:, None] * binomial).repeat(3, 1, 1, 1), persistent=False)

    def forward(self, images: Tensor, nodes: Sequence[str] = nodes) -> dict[str, Tensor]:
        height, width = images.shape[-2:]
        right, bottom = (STRIDE - width % STRIDE) % STRIDE, (STRIDE - height % STRIDE) % STRIDE
        # Of the image alone: what is repeated beyond its edge would count several times.
        gain = EXPOSURE / (images.float().mean(dim=(1, 2, 3), keepdim=True) + DARKNESS)
        octave = F.conv2d(F.pad(images, (0, right, 0, bottom), mode="replicate") * gain, self.opponents)
        features = {}
        for number, node in enumerate(self.nodes):
            if node in nodes:
                features[node] = self._features(octave, 3 if number else 1, STRIDE >> number)
            if number + 1 < OCTAVES:
                octave = F.conv2d(_pad(octave, self.blur), self.blur, stride=2, groups=3)
        return {node: features[node] for node in nodes}

    def _features(self, octave: Tensor, colours: int, stride: int) -> Tensor:
        """The log contrasts of the first `colours` planes and the means of all, averaged over `stride` pixels."""
        padded = _pad(octave, self.gabors)
        maps = []
        for plane in padded[:, :colours].split(1, dim=1):
            even, odd = F.conv2d(plane, self.gabors, stride=2).float().chunk(2, dim=1)
            contrast = torch.log(even.square() + odd.square() + CONTRAST_FLOOR**2) / 2 - math.log(CONTRAST_FLOOR)
            maps.append(F.avg_pool2d(contrast, stride // 2) if stride > 2 else contrast)
        maps.append(MEAN_WEIGHT * F.avg_pool2d(octave.float(), stride))
        return torch.cat(maps, 1)


def _pad(octave: Tensor, filters: Tensor) -> Tensor:
    """The octave with its edge repeated: filters [.., k, k], k even, at every second pixel, then lie half a pixel right
    of and below it."""
    before, after = filters.shape[-1] // 2 - 1, filters.shape[-1] // 2
    return F.pad(octave, (before, after, before, after), mode="replicate")


def gabor_pairs() -> Tensor:
    """Gabor filters in quadrature, [2 * wavelengths * orientations, 1, k, k], the even ones first.

    The envelope is round with sigma half a wavelength. The even filters have no mean, so brightness is invisible to
    them, and each filter answers a grating of its own wavelength, orientation and phase with the grating's amplitude
    (Daugman, JOSA A 2(7), 1985, gives the form).
    """
    taps = 2 * math.ceil(1.25 * max(WAVELENGTHS))
    y, x = torch.meshgrid(*[torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2] * 2, indexing="ij")
    even: list[Tensor] = []
    odd: list[Tensor] = []
    for wavelength in WAVELENGTHS:
        envelope = torch.exp(-(x**2 + y**2) / (2 * (wavelength / 2) ** 2))
        for turn in range(ORIENTATIONS):
            angle = math.pi * turn / ORIENTATIONS
            phase = 2 * math.pi / wavelength * (x * math.cos(angle) + y * math.sin(angle))
            for kernels, wave in ((even, torch.cos(phase)), (odd, torch.sin(phase))):
                kernel = envelope * (wave - (envelope * wave).sum() / envelope.sum())
                kernels.append(kernel / (kernel * wave).sum())
    return torch.stack(even + odd)[:, None].float()
