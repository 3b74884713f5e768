"""A small learner with everything a loop must carry: random views, dropout, batch normalisation, a phase that thaws,
statistics of the normals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from vqi.detectors.interface import ImageBatches
from vqi.detectors.learner import Learner, Optimisation, Schedule, Views


class ToyImages:
    """`count` pictures of noise around their own number, from a seed."""

    labels = None

    def __init__(self, count: int, size: int = 16) -> None:
        random = torch.Generator().manual_seed(7)
        self.images = torch.rand(count, 3, size, size, generator=random) * 0.5 + torch.linspace(0, 0.5, count).view(
            -1, 1, 1, 1
        )

    def __len__(self) -> int:
        return len(self.images)

    def load(self, numbers: Sequence[int]) -> Tensor:
        return self.images[list(numbers)]

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.images.split(4)


class ToyLearner(Learner):
    """Tells an image's own contrast from noisy views of it."""

    unchanged = ("frozen.",)
    mean: Tensor

    def __init__(self, seed: int = 0, dropout: float = 0.1) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.frozen = nn.Conv2d(3, 4, 3).requires_grad_(False)
            self.body = nn.Sequential(nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(dropout))
            self.head = nn.Linear(8, 1)
        self.register_buffer("mean", torch.zeros(()))
        self.explode_at = -1
        self.largest_micro_batch = 0

    def prepare(self, normals: ImageBatches) -> None:
        self.mean.copy_(torch.stack([batch.mean() for batch in normals]).mean())

    def optimisation(self, schedule: Schedule) -> Optimisation:
        groups = [
            {"params": self.body.parameters(), "lr": 1e-2},
            {"params": self.head.parameters(), "lr": 1e-2, "fixed": True},
        ]
        return Optimisation(torch.optim.Adam(groups, fused=True), lambda step: 1 - step / schedule.steps, clip=1.0)

    def begin_epoch(self, epoch: int, schedule: Schedule) -> None:
        self.body.requires_grad_(epoch >= 1)

    def views(self, images: Tensor, labels: Tensor | None, random: torch.Generator) -> Views:
        noise = torch.rand(images.shape, generator=random) * 0.2
        return {"view": images + noise, "target": images.std(dim=(1, 2, 3))}

    def loss(self, views: Views) -> dict[str, Tensor]:
        if self.largest_micro_batch and len(views["view"]) > self.largest_micro_batch:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"
            )
        predicted = self.head(self.body(self.frozen(views["view"] - self.mean)).mean(dim=(2, 3))).squeeze(1).float()
        loss = (predicted - views["target"]).square().mean()
        return {"loss": loss * float("nan") if self.explode_at == 0 else loss, "half": loss / 2}
