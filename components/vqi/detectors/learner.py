"""What learns by gradient, as the training loop sees it: it makes views of images, has a loss on them, and says how it
is optimised.

The loop (`vqi.training`) owns everything else: order, budgets, precision, devices, checkpoints, progress. Three rules
make a run that was killed and resumed end in the same weights, bit for bit, as one that was not: a learner draws random
numbers from the generator it is handed (or, in `loss`, from torch's own, which the loop seeds at every step) and from
nowhere else; whatever changes as it learns is a parameter, a buffer or the optimiser's; and what depends on the epoch
is set in `begin_epoch`, which is called again when a run resumes in the middle of one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from vqi.detectors.interface import Detector, ImageBatches
from vqi.detectors.settings import Budget

Views = Mapping[str, Tensor]


class TrainingImages(Protocol):
    """Images by number. `labels`: int64 [len], 1 = anomalous, or None where all are normal."""

    labels: Tensor | None

    def __len__(self) -> int: ...

    def load(self, numbers: Sequence[int]) -> Tensor:
        """float32 [n, 3, H, W] in [0, 1] on the CPU. Safe to call from several threads."""
        ...


class Optimisation(NamedTuple):
    """An optimiser and how its learning rates move: at step s (from 0) every group's rate is its initial one times
    `factor(s)`.

    Where a time budget will end the run earlier, s runs ahead of the steps made, so that it ends where they would have.
    A group with `"fixed": True` keeps its rate. `clip` is the largest gradient norm, 0 = unlimited. Ask torch for its
    fused optimiser: one pass over the weights in place of several (a step of cs_flow's 275 million takes .8 s in place
    of 2.8 s, docs/benchmarks.md).
    """

    optimiser: torch.optim.Optimizer
    factor: Callable[[int], float] = lambda step: 1.0
    clip: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """What the loop is about to do: `steps` in all, `steps_per_epoch`, and images a step (all devices together).

    `steps` is what the budget of steps allows; in `begin_epoch` it is no more than the time budget lets one expect.
    """

    steps: int
    steps_per_epoch: int
    batch_size: int

    @property
    def epochs(self) -> int:
        """Passes over the images, the last one possibly a part."""
        return -(-self.steps // self.steps_per_epoch)


@dataclass(frozen=True)
class Pretraining:
    """What must be learnt before something else, with a name and a budget of its own (which `train.max_steps` and the
    like still limit)."""

    name: str
    learner: Learner
    budget: Budget


class Learner(nn.Module, ABC):
    """A network and how it is trained."""

    # State that training never changes, by the beginning of its names: left out of checkpoints.
    unchanged: ClassVar[tuple[str, ...]] = ()
    # Buffers that `loss` adds numbers of images to: where several processes share a batch, all of them are counted.
    counted: ClassVar[tuple[str, ...]] = ()
    # Further images a learner may be given (textures, images of another domain), in the network's geometry.
    extra: TrainingImages | None = None

    def pretraining(self) -> Pretraining | None:
        """What is to be learnt before this, from the same images, by a run of the loop of its own: a teacher that is a
        part of this learner, say."""
        return None

    def prepare(self, normals: ImageBatches) -> None:
        """Before the first step of a run that does not resume: statistics of the normals, into buffers."""
        return

    @abstractmethod
    def optimisation(self, schedule: Schedule) -> Optimisation:
        """The optimiser over every parameter that is ever trained, and its schedule."""

    def begin_epoch(self, epoch: int, schedule: Schedule) -> None:
        """Epoch `epoch` (from 0) begins, or a run resumes in it: what depends on the epoch, such as parts that thaw."""
        return

    @abstractmethod
    def views(self, images: Tensor, labels: Tensor | None, random: torch.Generator) -> Views:
        """What a step learns from, on the CPU, made ahead in another thread: float32 [n, 3, H, W] in [0, 1] -> tensors
        whose first axis is n.

        Reads no parameter and no buffer. Pictures are [n, 3, h, w] in [0, 1] and masks [n, 1, h, w]: `vqi preview`
        draws those by their names.
        """

    def mini_batches(self, views: Views) -> Iterator[Views]:
        """What the optimiser steps of a batch learn from, one after the other: all of it at once, unless a method
        learns from less than an image.

        Mini-batches are what `loss` takes, too, and draw no random numbers: those come with the views.
        """
        yield views

    @abstractmethod
    def loss(self, views: Views) -> dict[str, Tensor]:
        """Scalars by name; "loss" is minimised, the others are its parts, for the record. Means over the images, so
        that pieces of a batch add up."""

    def satisfied(self) -> bool:
        """Asked at the end of every epoch: whether the learner has learnt enough by a rule of its own (kept in buffers,
        so that it resumes)."""
        return False

    def finish(self, normals: ImageBatches) -> None:
        """After the last step: what is computed from the trained network and kept in buffers, from `normals`.

        Where the settings say `tunes_on_normals`, these were held out of training, unless there are too few; they are
        never the normals that set the threshold.
        """
        return


class TrainedDetector(Detector, Learner):
    """A detector whose network is trained and that needs no index: `forward` is `score(images)`.

    The backbone stays as it came unless a method says otherwise: its parameters are frozen and its normalisation layers
    use their own statistics.
    """

    unchanged: ClassVar[tuple[str, ...]] = ("backbone.",)

    def train(self, mode: bool = True) -> Self:
        """Training mode for what is trained; the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def embed(self, images: Tensor) -> Tensor:
        """The images themselves: nothing is kept of normals, so there is nothing to compare with."""
        return images

    def fit(self, embeddings: Iterable[Tensor], images: int) -> dict[str, Tensor]:
        """No index; the normals are not looked at."""
        return {}
