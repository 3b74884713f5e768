"""train: prepare the network and store it. Methods with a frozen backbone store it as it came; the others learn here."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vqi.dataset.geometry import Geometry
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.dataset.splits import CALIBRATION_FRACTION, held_out
from vqi.detectors.interface import Detector
from vqi.detectors.learner import Learner
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings, Budget, settings_class
from vqi.detectors.storage import save_network
from vqi.platform.devices import Compute, place
from vqi.platform.errors import BadInput, VqiError
from vqi.platform.files import sha256_of, whole_folder
from vqi.platform.tracking import OpenRun, check_tracking, open_run
from vqi.steps.evaluate.learning import OBSERVED
from vqi.steps.scoring import TensorBatches
from vqi.steps.training_images import dataset_images, source_images
from vqi.training.checkpoints import Checkpoints, identity
from vqi.training.distributed import Group, launch
from vqi.training.loop import Loop, Training
from vqi.training.settings import TrainSettings

# Held out for early stopping, so that the calibration normals have no say in which weights are taken.
STOPPING_FRACTION = 0.1
# Normals that a method with an index builds a passing one from, to show what a checkpoint sees.
OBSERVED_INDEX = 32


@dataclass(frozen=True)
class Lesson:
    """All that a process needs to train; it is handed to every one of several."""

    dataset: Path
    method: str
    settings: dict[str, Any]
    backbone: BackboneSettings
    geometry: Geometry
    compute: Compute
    seed: int
    network: Path
    budgets: TrainSettings
    calibration_fraction: float | None
    tracking_uri: str
    experiment: str


@dataclass(frozen=True)
class Division:
    """Who learns from what: `learned` are trained on, `normals` are the good train images among them and are what an index is built from, `held_out`
    set the threshold, `stopping` decide when to stop, `observed` are test images whose maps are drawn and decide nothing.
    """

    learned: list[Sample]
    normals: list[Sample]
    held_out: list[Sample]
    stopping: list[Sample]
    observed: list[Sample]


def train(
    *,
    dataset: Path,
    method: str,
    settings: dict[str, Any],
    backbone: BackboneSettings,
    geometry: Geometry,
    compute: Compute,
    seed: int,
    network: Path,
    budgets: TrainSettings | None = None,
    calibration_fraction: float | None = None,
    tracking_uri: str = "",
    experiment: str = "vqi",
) -> dict[str, Any]:
    """Write the network artefact of `method` to `network`; returns what was learnt and how ({} where nothing is learnt by gradient).

    Where the Dataset has no calibration split and `calibration_fraction` is None, a fifth of the normals is held out of training here, for the
    threshold; 0 trains on all of them. Losses go to MLflow as steps go by. Raises BadInput where there are no normals, or the settings, the network
    or its weights cannot be used; RunFailed where training broke off (a checkpoint that was asked for is then there to resume from).
    """
    opened = Dataset(dataset)
    normals = opened.samples("train", "good")
    if not normals:
        raise BadInput(f"The Dataset {opened.manifest.name!r} has no normal images to train on; its train split is empty.")
    if settings_class(method).budget is None:
        detector = place(create(method, settings, backbone, geometry.input_size, seed), compute)
        notes = _notes(opened, geometry, compute)
        with whole_folder(network) as folder:
            save_network(detector, folder, notes)
        return {}
    lesson = Lesson(
        Path(dataset),
        method,
        settings,
        backbone,
        geometry,
        compute,
        seed,
        Path(network),
        budgets or TrainSettings(),
        calibration_fraction,
        tracking_uri,
        experiment,
    )
    check_tracking(tracking_uri, experiment)
    if lesson.budgets.processes == 1:
        return learn(Group(), lesson)
    create(method, settings, backbone, geometry.input_size, seed)  # what is wrong is said once, here, and not by every process
    return launch(lesson.budgets.processes, learn, lesson)


def divide(dataset: Dataset, method: str, budgets: TrainSettings, calibration_fraction: float | None, seed: int) -> Division:
    """Who learns from what, from content and seed alone. Raises BadInput where a supervised method has no labelled defects."""
    normals, calibration = dataset.samples("train", "good"), dataset.samples("calibration", "good")
    if not calibration and calibration_fraction is None:
        chosen = held_out({sample.path: sample.sha256 for sample in normals}, CALIBRATION_FRACTION, seed, "calibration in train")
        calibration = [sample for sample in normals if sample.path in chosen]
        normals = [sample for sample in normals if sample.path not in chosen]
    stopping: list[Sample] = []
    learned = normals
    if budgets.patience:
        chosen = held_out({sample.path: sample.sha256 for sample in normals}, STOPPING_FRACTION, seed, "stopping")
        stopping = [sample for sample in normals if sample.path in chosen]
        learned = [sample for sample in normals if sample.path not in chosen]
    if settings_class(method).supervised:
        labelled = [sample for sample in dataset.samples("labelled") if sample.label != "unknown"]
        if not any(sample.label == "defect" for sample in labelled):
            raise BadInput(
                f"{method} learns from labelled defects, and the Dataset {dataset.manifest.name!r} has none in its labelled split; "
                "set data.labelled_fraction (0.8, for example) so that ingest moves a part of the test images there."
            )
        learned = learned + labelled
    test = dataset.samples("test")
    observed = [sample for sample in test if sample.label == "defect"][:: max(1, len(test) // 3)][:2]
    observed += [sample for sample in test if sample.label == "good"][:1]
    return Division(learned, normals, calibration, stopping, observed)


def learn(group: Group, lesson: Lesson) -> dict[str, Any]:
    """Train in this process, one of `group`; rank 0 writes the network artefact. Returns the record of the training."""
    dataset, compute = Dataset(lesson.dataset), lesson.compute.of_process(group.rank) if group.size > 1 else lesson.compute
    division = divide(dataset, lesson.method, lesson.budgets, lesson.calibration_fraction, lesson.seed)
    kind = settings_class(lesson.method)
    with ExitStack() as around:
        detector = create(lesson.method, lesson.settings, lesson.backbone, lesson.geometry.input_size, lesson.seed)
        learner = cast(Learner, detector)
        if kind.extra_images and (source := str(lesson.settings.get(kind.extra_images, ""))):
            key = f"method.settings.{kind.extra_images}"
            learner.extra = around.enter_context(contextmanager(source_images)(source, lesson.geometry, key))
        place(detector, compute)
        watched = _Watched(detector, dataset, division, lesson.geometry)
        kept = group.rank == 0 or bool(lesson.budgets.checkpoints)
        checkpoints = _checkpoints(detector, lesson, dataset, division) if kept else None
        run = around.enter_context(_tracked(lesson, dataset)) if group.rank == 0 else None
        images = dataset_images(dataset, division.learned, lesson.geometry, kind.supervised)
        stopping = dataset_images(dataset, division.stopping, lesson.geometry) if division.stopping else None
        normals = _batches(dataset, division.normals, lesson)
        budgets, first, earlier = lesson.budgets, learner.first_lesson(), {}
        if first:
            # A run that resumes finds this lesson at its end, or where it broke off.
            before = Loop(
                first.learner,
                images,
                name=f"{lesson.method}'s {first.name}",
                settings=budgets.of_first(first.budget),
                budget=first.budget,
                compute=compute,
                seed=lesson.seed,
                stopping=stopping,
                checkpoints=_checkpoints(detector, lesson, dataset, division, first.name) if kept else None,
                group=group,
                record=partial(_log_first, run, first.name) if run else None,
            ).run(normals)
            budgets, earlier = budgets.after(before.seconds), {"first_lesson": {"name": first.name} | before.to_dict()}
        loop = Loop(
            learner,
            images,
            name=lesson.method,
            settings=budgets,
            budget=cast(Budget, kind.budget),
            compute=compute,
            seed=lesson.seed,
            stopping=stopping,
            checkpoints=checkpoints,
            group=group,
            record=run.log if run else None,
            observe=watched.maps,
        )
        training = loop.run(normals, _batches(dataset, division.held_out, lesson) if division.held_out else None)
        record = training.to_dict() | earlier | {"run_id": run.run_id if run else ""}
        if group.rank == 0:
            _save(detector, training, watched, division, record, lesson, dataset)
            print(_sentence(lesson.method, training), file=sys.stderr, flush=True)
            record["checkpoints"] = checkpoints.shown if checkpoints else ""
    return record


class _Watched:
    """A few test images, and what the detector makes of them: pictures for the report, nothing is decided by them."""

    def __init__(self, detector: Detector, dataset: Dataset, division: Division, geometry: Geometry) -> None:
        self.detector, self.images, self.normals = detector, None, None
        self.paths = [sample.path for sample in division.observed]
        if division.observed:
            self.images = dataset_images(dataset, division.observed, geometry).load(range(len(division.observed)))
            few = division.normals[:OBSERVED_INDEX]
            self.normals = TensorBatches(dataset, few, geometry, 8)

    def maps(self) -> dict[str, Tensor]:
        """float32 [k, h, w] by the name "maps"; {} where there is nothing to look at. Where a method has an index, it is of few normals."""
        if self.images is None or self.normals is None:
            return {}
        index = self.detector.fit(self.detector.embedded(self.normals), len(self.normals))
        with torch.no_grad():
            scores = self.detector.score(self.detector.embed(self.images.to(self.detector.device)), index)
        return {"maps": scores.map.float().cpu()}


def _save(
    detector: Detector, training: Training, watched: _Watched, division: Division, record: dict[str, Any], lesson: Lesson, dataset: Dataset
) -> None:
    from safetensors.torch import save_file

    notes = _notes(dataset, lesson.geometry, lesson.compute)
    learned = {"held_out": [sample.path for sample in division.held_out], "learned_images": len(division.learned)}
    notes["training"] = record | learned | {"observed": watched.paths, "budgets": asdict(lesson.budgets)}
    last = watched.maps()
    with whole_folder(lesson.network) as folder:
        if last and training.observed:
            save_file({"first": training.observed["maps"].contiguous(), "last": last["maps"].contiguous()}, folder / OBSERVED)
            notes["training"]["observed_sha256"] = sha256_of(folder / OBSERVED)
        save_network(detector, folder, notes)


def _notes(dataset: Dataset, geometry: Geometry, compute: Compute) -> dict[str, Any]:
    manifest = dataset.manifest
    return {
        "dataset": manifest.name,
        "dataset_fingerprint": manifest.fingerprint,
        "geometry": geometry.to_dict(),
        "precision": compute.precision,
    }


def _batches(dataset: Dataset, samples: Sequence[Sample], lesson: Lesson) -> TensorBatches:
    return TensorBatches(dataset, samples, lesson.geometry, lesson.compute.batch_size)


def _log_first(run: OpenRun, name: str, point: dict[str, float]) -> None:
    """The losses of a first lesson, under its name: their steps are counted from 0, and so are those of what comes after."""
    run.log({key if key == "step" else f"{name}.{key}": value for key, value in point.items()})


def _checkpoints(detector: Detector, lesson: Lesson, dataset: Dataset, division: Division, first: str = "") -> Checkpoints | None:
    """Where this run's checkpoints lie, or those of its lesson `first`; what makes the weights what they are is its identity, so that no other run
    resumes from them.
    """
    if not lesson.budgets.checkpoints:
        return None
    backbone: Any = detector.backbone
    facts = {
        "method": lesson.method,
        "settings": lesson.settings,
        "backbone": asdict(backbone.settings),
        "weights": asdict(backbone.origin),
        "geometry": lesson.geometry.to_dict(),
        "fingerprint": dataset.manifest.fingerprint,
        "held_out": [sample.path for sample in division.held_out],
        "seed": lesson.seed,
        "precision": lesson.compute.precision,
        "budgets": asdict(replace(lesson.budgets, max_seconds=0.0, checkpoints="", keep=1, processes=1)),
    } | ({"lesson": first} if first else {})
    return Checkpoints(lesson.budgets.checkpoints, identity(facts), lesson.budgets.keep)


@contextmanager
def _tracked(lesson: Lesson, dataset: Dataset) -> Iterator[OpenRun | None]:
    """A run in MLflow that losses go to; evaluate goes on with it. A training that breaks off is marked as failed there."""
    run = open_run(lesson.tracking_uri, lesson.experiment, f"{dataset.manifest.name} {lesson.method}")
    try:
        yield run
    except BaseException:
        if run:
            with contextlib.suppress(VqiError):
                run.fail()
        raise


def _sentence(method: str, training: Training) -> str:
    return (
        f"{method}: {training.steps} steps of {training.batch_size} images in {training.seconds:.0f} s ({training.images_per_second:.1f} images/s, "
        f"{100 * training.waited_share:.0f} % of the time waiting for data), ended by {training.stopped}"
    )
