"""Small images and batches for the detectors' tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


class Batches:
    """Images [n, 3, H, W], in batches of `size`."""

    def __init__(self, images: Tensor, size: int = 4) -> None:
        self.images, self.size = images, size

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.images.split(self.size)


class TensorImages:
    """Images [n, 3, H, W] by number, all normal: what a training loop calls TrainingImages."""

    labels: Tensor | None = None

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def load(self, numbers: Sequence[int]) -> Tensor:
        return self.images[list(numbers)]


def smooth_images(count: int, side: int = 64, seed: int = 0) -> Tensor:
    """Random images with structure at several scales, float32 [count, 3, side, side] in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, side // 8, side // 8, generator=generator)
    fine = torch.rand(count, 3, side, side, generator=generator)
    return 0.8 * torch.nn.functional.interpolate(coarse, size=side, mode="bilinear") + 0.2 * fine


def with_defect(images: Tensor) -> Tensor:
    """The same images with a bright square in the upper left quarter."""
    changed = images.clone()
    changed[:, :, 12:28, 12:28] = torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    return changed
