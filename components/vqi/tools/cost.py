"""What a method costs on this machine: measured for a few seconds on random images, with random weights, and
extrapolated."""

from __future__ import annotations

import contextlib
import io
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor

from vqi.detectors.compute import to_device
from vqi.detectors.interface import Detector
from vqi.detectors.learner import Learner, Optimisation, Schedule
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings, Budget, settings_class
from vqi.platform.devices import Compute
from vqi.training.order import generator, steps_per_epoch
from vqi.training.settings import TrainSettings

# Images that an extrapolated figure is for: a common number of normals.
IMAGES = 200
# About how long each of a method's figures is measured, seconds; one call is made however long it takes.
SECONDS = 1.0
# Indexes of so many images are built; how the time grows between them is how it is taken to grow beyond.
FEW, MORE = 4, 16
CHUNK = 8


@dataclass(frozen=True)
class TrainingCost:
    """What is learnt by gradient: `steps` of `batch_size` images each, `milliseconds` a step, taken from steps of
    `measured_batch` images."""

    name: str
    batch_size: int
    measured_batch: int
    milliseconds: float
    steps: int

    @property
    def seconds(self) -> float:
        return self.steps * self.milliseconds / 1000


@dataclass(frozen=True)
class Cost:
    """`latency_ms`: one image, scored alone. `trainings`: the default budget on `images` photographs, one after the
    other. `index_seconds`: embedding them and building the index (0 where there is none). Everything in torch and
    float32; an exported graph is usually faster.
    """

    device: str
    threads: int
    backbone: str
    layers: tuple[str, ...]
    size: tuple[int, int]
    images: int
    latency_ms: float
    trainings: tuple[TrainingCost, ...]
    index_seconds: float

    @property
    def hours(self) -> float:
        """From photographs to a detector, hours."""
        return (sum(training.seconds for training in self.trainings) + self.index_seconds) / 3600

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"hours": self.hours}


def measure_cost(
    method: str, settings: dict[str, Any], backbone: BackboneSettings, size: tuple[int, int], compute: Compute
) -> Cost:
    """The cost of `method` here; the backbone's weights are drawn at random, so none are needed.

    Raises BadInput where the method cannot be made with this backbone and size.
    """
    detector = to_device(create(method, settings, backbone, size), compute)
    images = torch.rand(MORE, 3, *size, generator=generator(0, "cost", 0))
    with contextlib.redirect_stderr(io.StringIO()):  # what it announces of its memory is true of these few images alone
        index_seconds = _index_seconds(detector, images)
    latency = _median_seconds(lambda: _score_once(detector, images[:1]))
    supervised = settings_class(method).supervised
    budget = settings_class(method).budget
    trainings = (
        () if budget is None else tuple(_trainings("training", cast(Learner, detector), budget, images, supervised))
    )
    network: Any = detector.backbone
    return Cost(
        device=str(detector.device),
        threads=torch.get_num_threads(),
        backbone=network.settings.name,
        layers=network.settings.layers,
        size=size,
        images=IMAGES,
        latency_ms=round(1000 * latency, 2),
        trainings=trainings,
        index_seconds=round(index_seconds, 2),
    )


def _index_seconds(detector: Detector, images: Tensor) -> float:
    """Embedding IMAGES photographs and building their index, seconds; leaves the detector with an index of MORE."""
    taken = []
    for count in (FEW, MORE):
        started = time.perf_counter()
        with torch.inference_mode():
            embeddings = [detector.embed(batch.to(detector.device)) for batch in images[:count].split(CHUNK)]
        embedded = time.perf_counter()
        detector.index = detector.fit(embeddings, count)
        taken.append((embedded - started, time.perf_counter() - embedded))
    if not detector.index:
        return 0.0
    (_, few), (embedding, more) = taken
    growth = min(max(math.log(more / few) / math.log(MORE / FEW), 0.0), 2.0)
    return embedding * IMAGES / MORE + more * (IMAGES / MORE) ** growth


@torch.inference_mode()
def _score_once(detector: Detector, images: Tensor) -> None:
    detector(images.to(detector.device)).image.tolist()


def _trainings(name: str, learner: Learner, budget: Budget, images: Tensor, supervised: bool) -> Iterator[TrainingCost]:
    """The cost of a training and of those that come before it, in the order they are learnt."""
    if first := learner.pretraining():
        yield from _trainings(first.name, first.learner, first.budget, images, supervised)
    yield _training_cost(name, learner, budget, images, supervised)


def _training_cost(name: str, learner: Learner, budget: Budget, images: Tensor, supervised: bool) -> TrainingCost:
    """Steps of two images, and of more while those are quick, up to the budget's own; a step's time is taken to grow
    with its images."""
    epoch = steps_per_epoch(IMAGES, budget.batch_size)
    schedule = Schedule(TrainSettings().steps(budget, epoch), epoch, budget.batch_size)
    learner.prepare(_Batches(images))
    optimisation = learner.optimisation(schedule)
    learner.begin_epoch(schedule.epochs - 1, schedule)  # what thaws as training goes on has thawed by then
    learner.train()
    batch = min(2, budget.batch_size)
    while True:
        few = images[torch.arange(batch) % len(images)]
        labels = torch.arange(batch) % 2 if supervised else None
        seconds = _median_seconds(lambda few=few, labels=labels: _step(learner, optimisation, few, labels))  # type: ignore[misc]
        if batch == budget.batch_size or 4 * seconds > SECONDS:
            break
        batch = min(4 * batch, budget.batch_size)
    learner.eval()
    milliseconds = 1000 * seconds * budget.batch_size / batch
    return TrainingCost(name, budget.batch_size, batch, round(milliseconds, 2), schedule.steps)


def _step(learner: Learner, optimisation: Optimisation, images: Tensor, labels: Tensor | None) -> float:
    """One step as the loop takes it, in float32; seconds. Mini-batches are learnt from for as long as there is time,
    and the others are counted."""
    device = next(learner.parameters()).device
    started = time.perf_counter()
    with torch.no_grad():
        views = learner.views(images, labels, generator(0, "cost", 1))
    made = time.perf_counter()
    mini_batches, learnt = 0, 0
    for mini_batch in learner.mini_batches(views):
        mini_batches += 1
        if learnt and time.perf_counter() - made > SECONDS:
            continue
        optimisation.optimiser.zero_grad(set_to_none=True)
        loss = learner.loss({name: values.to(device) for name, values in mini_batch.items()})["loss"]
        loss.backward()
        if optimisation.clip:
            torch.nn.utils.clip_grad_norm_([p for p in learner.parameters() if p.grad is not None], optimisation.clip)
        optimisation.optimiser.step()
        learnt += 1
        loss.item()
        ended = time.perf_counter()
    return (made - started) + (ended - made) * mini_batches / learnt


def _median_seconds(call: Callable[[], float | None]) -> float:
    """The median time of calls made for SECONDS, without the first one where there is time for more; a call may say
    itself how long it took."""
    taken: list[float] = []
    begun = time.perf_counter()
    while not taken or time.perf_counter() - begun < SECONDS:
        started = time.perf_counter()
        seconds = call()
        taken.append(time.perf_counter() - started if seconds is None else seconds)
    return statistics.median(taken[1:] or taken)


class _Batches:
    """Images in batches, as a detector asks for its normals."""

    def __init__(self, images: Tensor) -> None:
        self.images: Sequence[Tensor] = images.split(CHUNK)

    def __len__(self) -> int:
        return MORE

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.images
