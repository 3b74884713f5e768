"""distill: make a teacher for efficient_ad out of a backbone and any images, with the training loop and its budgets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vqi.batches.training_images import source_images
from vqi.dataset.geometry import Geometry
from vqi.detectors.compute import to_device
from vqi.detectors.efficient_ad import EfficientAd
from vqi.detectors.learner import TrainingImages
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.detectors.storage import versions
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput
from vqi.platform.files import sha256_of, write_json, write_whole
from vqi.training.checkpoints import Checkpoints, identity
from vqi.training.distributed import Group, launch
from vqi.training.loop import Loop
from vqi.training.settings import TrainSettings

FORMAT = "vqi-teacher/1"
METHOD = "efficient_ad"


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
) -> dict[str, Any]:
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


def learn(group: Group, task: Task) -> dict[str, Any]:
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
        notes = {
            "format": FORMAT,
            "model_size": detector.settings.model_size,
            "channels": detector.settings.channels,
            "input_size": list(detector.input_size),
            "backbone": detector.backbone.settings.model_dump(),
            "weights": asdict(detector.backbone.origin),
            "images": len(images),
            "seed": task.seed,
            "training": training.to_dict(),
            "versions": versions(),
        }
    if group.rank == 0:
        from safetensors.torch import save

        state = {name: tensor.detach().cpu().contiguous() for name, tensor in detector.teacher.state_dict().items()}
        write_whole(task.teacher, save(state))
        notes["sha256"] = sha256_of(task.teacher)
        write_json(task.teacher.with_suffix(".json"), notes)
    return notes


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
        "weights": asdict(detector.backbone.origin),
        "geometry": task.geometry.to_dict(),
        "seed": task.seed,
        "precision": task.compute.precision,
        "budgets": task.budgets.model_dump(exclude={"max_seconds", "checkpoints", "processes"}),
    }
    return Checkpoints(task.budgets.checkpoints, identity(facts))
