"""distill: make a teacher for efficient_ad out of a backbone and any images, with the training loop and its budgets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from vqi.batches.training_images import source_images
from vqi.dataset.geometry import Geometry
from vqi.detectors.compute import to_device
from vqi.detectors.efficient_ad import EfficientAd
from vqi.detectors.learner import TrainingImages
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings, WholeBackbone
from vqi.detectors.storage import versions
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput
from vqi.platform.files import write_whole
from vqi.platform.records import FileRecord, Pair, write_record
from vqi.storage.weights import WeightsOrigin
from vqi.training.checkpoints import Checkpoints, identity
from vqi.training.distributed import Group, launch
from vqi.training.loop import Loop
from vqi.training.record import LoopRecord
from vqi.training.settings import TrainSettings

METHOD = "efficient_ad"


class TeacherRecord(FileRecord):
    """The file beside a teacher's weights: how they came about, and their `sha256`. `images` counts the pictures."""

    format_name: ClassVar[str] = "vqi-teacher/1"
    remedy: ClassVar[str] = "distil again"

    model_size: str
    channels: int
    input_size: Pair[int]
    backbone: WholeBackbone
    weights: WeightsOrigin
    images: int
    seed: int
    training: LoopRecord
    versions: dict[str, str]
    sha256: str


@dataclass(frozen=True)
class Task:
    """All that a process needs; it is handed to every one of several."""

    source: str
    settings: dict[str, Any]
    backbone: BackboneSettings
    geometry: Geometry
    compute: Compute
    seed: int
    teacher: Path
    budgets: TrainSettings


def distill(
    *,
    source: str,
    settings: dict[str, Any],
    backbone: BackboneSettings,
    geometry: Geometry,
    compute: Compute,
    seed: int,
    teacher: Path,
    budgets: TrainSettings | None = None,
) -> TeacherRecord:
    """Write the teacher's weights to `teacher` (safetensors) and, beside it with the suffix .json, how they came about;
    returns the latter.

    `source`: a folder, archive or s3:// prefix of pictures of anything, the more varied the better. `settings`:
    efficient_ad's, of which the model's size, its channels and the steps count. Raises BadInput where there are no
    pictures, or the backbone or its weights cannot be used; RunFailed where training broke off.
    """
    if teacher.suffix != ".safetensors":
        raise BadInput(f"The teacher is to be written to {teacher.name!r}; name a file that ends in .safetensors.")
    task = Task(
        source,
        {**settings, "teacher": ""},
        backbone,
        geometry,
        compute,
        seed,
        Path(teacher),
        budgets or TrainSettings(),
    )
    if task.budgets.processes == 1:
        return learn(Group(), task)
    create(
        METHOD, task.settings, backbone, geometry.input_size, seed
    )  # what is wrong is said once, here, and not by every process
    return launch(task.budgets.processes, learn, task)


def learn(group: Group, task: Task) -> TeacherRecord:
    """Distil in this process, one of `group`; rank 0 writes the files."""
    compute = task.compute.of_process(group.rank) if group.size > 1 else task.compute
    with contextmanager(source_images)(task.source, task.geometry, "the source") as images:
        detector = to_device(
            cast(EfficientAd, create(METHOD, task.settings, task.backbone, task.geometry.input_size, task.seed)),
            compute,
        )
        first = detector.pretraining()
        assert first is not None
        loop = Loop(
            first.learner,
            images,
            name="distill",
            settings=task.budgets.model_copy(update={"max_steps": task.budgets.of_first(first.budget).max_steps}),
            budget=first.budget,
            compute=compute,
            seed=task.seed,
            checkpoints=_checkpoints(detector, task, len(images))
            if group.rank == 0 or task.budgets.checkpoints
            else None,
            group=group,
        )
        training = loop.run(_Batches(images, compute.batch_size))
        images_seen = len(images)
    from safetensors.torch import save

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in detector.teacher.state_dict().items()}
    weights = save(state)
    record = TeacherRecord(
        model_size=detector.settings.model_size,
        channels=detector.settings.channels,
        input_size=detector.input_size,
        backbone=detector.backbone.settings,
        weights=detector.backbone.origin,
        images=images_seen,
        seed=task.seed,
        training=training.record,
        versions=versions(),
        sha256=hashlib.sha256(weights).hexdigest(),
    )
    if group.rank == 0:
        write_whole(task.teacher, weights)
        write_record(task.teacher.with_suffix(".json"), record)
    return record


class _Batches:
    """Images by number as batches in order, float32 [n, 3, h, w]."""

    def __init__(self, images: TrainingImages, size: int) -> None:
        self.images, self.size = images, size

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Tensor]:
        for numbers in torch.arange(len(self.images)).split(self.size):
            yield self.images.load(numbers.tolist())


def _checkpoints(detector: EfficientAd, task: Task, images: int) -> Checkpoints | None:
    if not task.budgets.checkpoints:
        return None
    facts = {
        "teacher of": {key: task.settings.get(key) for key in ("model_size", "channels", "distillation_steps")},
        "source": task.source,
        "images": images,
        "backbone": detector.backbone.settings.model_dump(),
        "weights": detector.backbone.origin.values(),
        "geometry": task.geometry.model_dump(),
        "seed": task.seed,
        "precision": task.compute.precision,
        "budgets": task.budgets.model_dump(exclude={"max_seconds", "checkpoints", "processes"}),
    }
    return Checkpoints(task.budgets.checkpoints, identity(facts))
