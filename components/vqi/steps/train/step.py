"""train: prepare the network and store it. Methods with a frozen backbone store it as it came; the others learn
here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from vqi.batches.tensors import TensorBatches
from vqi.batches.training_images import dataset_images, source_images
from vqi.dataset.geometry import Geometry
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.dataset.tiling import united
from vqi.detectors.compute import to_device
from vqi.detectors.engine_record import EngineRecord
from vqi.detectors.interface import Detector
from vqi.detectors.learner import Learner, TrainedDetector, TrainingImages
from vqi.detectors.network_graph import write_engine
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings, Budget, settings_class
from vqi.detectors.storage import save_network
from vqi.evaluation.cross_validation import CrossValidation
from vqi.platform.devices import Compute, bfloat16_instructions, torch_device
from vqi.platform.errors import BadInput, VqiError
from vqi.platform.files import sha256_of, whole_folder
from vqi.platform.logs import logger
from vqi.steps.train.settings import StepSettings
from vqi.tracking.origins import origin_tags, run_title
from vqi.tracking.runs import OpenRun, check_tracking, open_run
from vqi.training.checkpoints import Checkpoints, identity
from vqi.training.cross_validation import Chosen, cross_validated
from vqi.training.distributed import Group, launch
from vqi.training.folds import (
    Photographs,
    check_folds,
    cross_validation_record,
)
from vqi.training.loop import Loop, Training
from vqi.training.record import TRACKED, NetworkNotes, PretrainingRecord, TrainingRecord
from vqi.training.sample_split import SampleSplit, few_for_tuning, split_samples
from vqi.training.settings import TrainSettings, check_training_precision

log = logger(__name__)

# Normals that a method with an index builds a passing one from, to show what a checkpoint sees.
TRACKED_INDEX = 32
# Photographs that an engine is compared with torch on.
ENGINE_EXAMPLES = 2


@dataclass(frozen=True)
class TrainingJob:
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
    kfp_run: str = ""

    @staticmethod
    def of(settings: StepSettings, dataset: Path, network: Path, kfp_run: str) -> TrainingJob:
        """The job that the step's settings describe, from one folder into another."""
        return TrainingJob(
            Path(dataset),
            settings.method,
            settings.method_settings,
            settings.backbone,
            settings.geometry,
            settings.compute,
            settings.seed,
            Path(network),
            settings.train,
            settings.calibration_fraction,
            settings.tracking.uri,
            settings.tracking.experiment,
            kfp_run,
        )


def train(settings: StepSettings, *, dataset: Path, network: Path, kfp_run: str = "") -> TrainingRecord | None:
    """Write the network artefact of `method` to `network`; returns what was learnt and how (None where nothing is
    learnt by gradient).

    Where the Dataset has no calibration split and `calibration_fraction` is None, a fifth of the normals is held out of
    training here, for the threshold; 0 trains on all of them. Losses go to MLflow as steps go by, under a run that
    names `kfp_run`, the KFP run that this is a step of. Raises BadInput where there are no normals, or the settings,
    the network or its weights cannot be used; RunFailed where training broke off (a checkpoint that was asked for is
    then there to resume from).
    """
    data, method, compute, geometry = Dataset(dataset), settings.method, settings.compute, settings.geometry
    normals = data.samples("train", "good")
    if not normals:
        raise BadInput(
            f"The Dataset {data.manifest.name!r} has no normal images to train on; its train split is empty."
        )
    if compute.precision == "bfloat16" and torch_device(compute).type == "cpu" and not bfloat16_instructions():
        log.warning(
            "compute.precision is bfloat16, and this processor has no instructions for it (AMX, AVX512-BF16): float32 "
            "is as fast here and more exact"
        )
    if settings_class(method).budget is None:
        made = create(method, settings.method_settings, settings.backbone, geometry.input_size, settings.seed)
        detector = to_device(made, compute)
        notes = _notes(data, geometry, compute)
        with whole_folder(network) as folder:
            save_network(detector, folder, notes.values(), _engine(detector, folder, compute, data, normals, geometry))
        return None
    # The first step refuses it where the device is named; here `auto` has become one.
    check_training_precision(method, compute.precision, torch_device(compute).type)
    job = TrainingJob.of(settings, dataset, network, kfp_run)
    check_tracking(job.tracking_uri, job.experiment)
    if job.budgets.processes == 1:
        return learn(Group(), job)
    # What is wrong is said once, here, and not by every process.
    create(method, job.settings, job.backbone, geometry.input_size, job.seed)
    return launch(job.budgets.processes, learn, job)


def learn(group: Group, job: TrainingJob) -> TrainingRecord:
    """Train in this process, one of `group`; rank 0 writes the network artefact. Returns the record of the training."""
    dataset, compute = Dataset(job.dataset), job.compute.of_process(group.local_rank) if group.size > 1 else job.compute
    split = split_samples(dataset, job.method, job.budgets, job.calibration_fraction, job.seed)
    kind = settings_class(job.method)
    with ExitStack() as around:
        detector = _created(job)
        learner = cast(Learner, detector)
        images = dataset_images(dataset, split.learned, job.geometry, kind.supervised)
        folds, photographs = getattr(detector.settings, "folds", 0), Photographs.of(split.learned, images.labels)
        check_folds(folds, photographs.labels, photographs.groups)
        if kind.extra_images and (source := str(job.settings.get(kind.extra_images, ""))):
            key = f"method.settings.{kind.extra_images}"
            learner.extra = around.enter_context(contextmanager(source_images)(source, job.geometry, key))
        to_device(detector, compute)
        if kind.tunes_on_normals and not split.tuning and group.rank == 0:
            log.warning(few_for_tuning(job.method))
        tracked = _TrackedImages(detector, dataset, split, job.geometry)
        kept = partial(_checkpoints, detector, job, dataset, split)
        checkpoints = kept()
        run = around.enter_context(_tracked(job, dataset)) if group.rank == 0 else None
        stopping = dataset_images(dataset, split.stopping, job.geometry, kind.supervised) if split.stopping else None
        normals = _batches(dataset, split.normals, job)
        budgets, first = job.budgets, learner.pretraining()
        validated: CrossValidation | None = None
        pretraining: PretrainingRecord | None = None
        if folds:
            validated = _cross_validation(group, job, compute, folds, photographs, images, stopping, normals, kept)
        if first:
            # A run that resumes finds this job at its end, or where it broke off.
            before = Loop(
                first.learner,
                images,
                name=f"{job.method}'s {first.name}",
                settings=budgets.of_first(first.budget),
                budget=first.budget,
                compute=compute,
                seed=job.seed,
                stopping=stopping,
                checkpoints=kept(first.name),
                group=group,
                record=partial(_log_first, run, first.name) if run else None,
            ).run(normals)
            budgets = budgets.after(before.seconds)
            pretraining = PretrainingRecord(**dict(before.record), name=first.name)
        loop = Loop(
            learner,
            images,
            name=job.method,
            settings=budgets,
            budget=cast(Budget, kind.budget),
            compute=compute,
            seed=job.seed,
            stopping=stopping,
            checkpoints=checkpoints,
            group=group,
            record=run.log if run else None,
            track=tracked.maps,
        )
        # Never what sets the threshold: that promises a rate for scores which its own normals had no say in.
        training = loop.run(normals, _batches(dataset, split.tuning, job) if split.tuning else None)
        record = TrainingRecord(
            **dict(training.record),
            cross_validation=validated,
            pretraining=pretraining,
            run_id=run.run_id if run else "",
            held_out=tuple(sample.path for sample in split.held_out),
            learned_images=len(split.learned),
            tuning_images=len(split.tuning),
            tracked=tuple(tracked.paths),
            budgets=job.budgets.model_dump(),
        )
        if group.rank == 0:
            _save(detector, training, tracked, record, job, dataset)
            log.info(_sentence(job.method, training))
    return record.model_copy(update={"checkpoints": checkpoints.shown if checkpoints else ""})


def _created(job: TrainingJob) -> Detector:
    return create(job.method, job.settings, job.backbone, job.geometry.input_size, job.seed)


def _cross_validation(
    group: Group,
    job: TrainingJob,
    compute: Compute,
    folds: int,
    photographs: Photographs,
    images: TrainingImages,
    stopping: TrainingImages | None,
    normals: TensorBatches,
    checkpoints: Callable[[str], Checkpoints | None],
) -> CrossValidation:
    """Train one more network for each fold, as the run's is trained and by the same processes; what they make of what
    each had not learnt from."""
    results = cross_validated(
        lambda: cast(TrainedDetector, to_device(_created(job), compute)),
        Chosen(images, photographs.numbers),
        photographs.types,
        photographs.groups,
        folds=folds,
        name=job.method,
        settings=job.budgets,
        budget=cast(Budget, settings_class(job.method).budget),
        compute=compute,
        seed=job.seed,
        normals=normals,
        stopping=stopping,
        checkpoints=lambda fold: checkpoints(f"fold-{fold + 1}"),
        group=group,
    )
    record = cross_validation_record(results, photographs.labels)
    if group.rank == 0:
        log.info(f"{job.method}: {record.sentence}")
    return record


class _TrackedImages:
    """A few test images, and what the detector makes of them: pictures for the report, nothing is decided by them."""

    def __init__(self, detector: Detector, dataset: Dataset, split: SampleSplit, geometry: Geometry) -> None:
        self.detector, self.geometry = detector, geometry
        self.paths = [sample.path for sample in split.tracked]
        self.images = TensorBatches(dataset, split.tracked, geometry, 8)
        self.normals = TensorBatches(dataset, split.normals[:TRACKED_INDEX], geometry, 8)

    def maps(self) -> dict[str, Tensor]:
        """float32 [k, h, w] by the name "maps"; {} where there is nothing to look at. Where a method has an index, it
        is of few normals."""
        if not self.paths:
            return {}
        index = self.detector.fit(self.detector.embedded(self.normals), len(self.normals))
        maps = [values for _, values in united(self._scored(index), self.geometry.tiling)]
        return {"maps": torch.from_numpy(np.stack(maps))}

    def _scored(self, index: Mapping[str, Tensor]) -> Iterator[tuple[float, np.ndarray]]:
        for batch in self.images:
            with torch.no_grad():
                scores = self.detector.score(self.detector.embed(batch.to(self.detector.device)), index)
            yield from zip(scores.image.tolist(), scores.map.float().cpu().numpy(), strict=True)


def _save(
    detector: Detector,
    training: Training,
    tracked: _TrackedImages,
    record: TrainingRecord,
    job: TrainingJob,
    dataset: Dataset,
) -> None:
    from safetensors.torch import save_file

    last = tracked.maps()
    with whole_folder(job.network) as folder:
        if last and training.tracked:
            save_file(
                {"first": training.tracked["maps"].contiguous(), "last": last["maps"].contiguous()}, folder / TRACKED
            )
            record = record.model_copy(update={"tracked_sha256": sha256_of(folder / TRACKED)})
        engine = _engine(detector, folder, job.compute, dataset, dataset.samples("train", "good"), job.geometry)
        save_network(detector, folder, _notes(dataset, job.geometry, job.compute, record).values(), engine)


def _engine(
    detector: Detector,
    folder: Path,
    compute: Compute,
    dataset: Dataset,
    normals: Sequence[Sample],
    geometry: Geometry,
) -> EngineRecord:
    """What runs the network from now on, its graph written into `folder`; it must agree with torch on a few normals."""
    examples = next(iter(TensorBatches(dataset, normals[:ENGINE_EXAMPLES], geometry, ENGINE_EXAMPLES)))
    detector.eval()
    engine = write_engine(detector, folder, compute, examples)
    log.info(f"the network runs by {engine.sentence}")
    return engine


def _notes(
    dataset: Dataset, geometry: Geometry, compute: Compute, training: TrainingRecord | None = None
) -> NetworkNotes:
    manifest = dataset.manifest
    return NetworkNotes(
        dataset=manifest.name,
        dataset_fingerprint=manifest.fingerprint,
        geometry=geometry,
        precision=compute.precision,
        training=training,
    )


def _batches(dataset: Dataset, samples: Sequence[Sample], job: TrainingJob) -> TensorBatches:
    return TensorBatches(dataset, samples, job.geometry, job.compute.batch_size)


def _log_first(run: OpenRun, name: str, point: dict[str, float]) -> None:
    """The losses of a pretraining, under its name: their steps are counted from 0, and so are those of what comes
    after."""
    run.log({key if key == "step" else f"{name}.{key}": value for key, value in point.items()})


def _checkpoints(
    detector: Detector, job: TrainingJob, dataset: Dataset, split: SampleSplit, part: str = ""
) -> Checkpoints | None:
    """Where this run's checkpoints lie, or below them those of another network of it, a pretraining's or a fold's; what
    makes the weights what they are is the run's identity, so that no other run resumes from them.
    """
    if not job.budgets.checkpoints:
        return None
    backbone: Any = detector.backbone
    facts = {
        "method": job.method,
        "settings": job.settings,
        "backbone": backbone.settings.model_dump(),
        "weights": backbone.origin.values(),
        "geometry": job.geometry.model_dump(),
        "fingerprint": dataset.manifest.fingerprint,
        "held_out": [sample.path for sample in split.held_out],
        "tuning": [sample.path for sample in split.tuning],
        "seed": job.seed,
        "precision": job.compute.precision,
        "budgets": job.budgets.model_dump(exclude={"max_seconds", "checkpoints", "processes", "nodes"}),
    }
    address, run = job.budgets.checkpoints, identity(facts)
    return Checkpoints(f"{address.rstrip('/')}/{run}", part) if part else Checkpoints(address, run)


def _same_training(job: TrainingJob, dataset: Dataset) -> dict[str, Any]:
    """What a training has in common with another start of it."""
    return {
        "name": dataset.manifest.name,
        "fingerprint": dataset.manifest.fingerprint,
        "method": job.method,
        "settings": job.settings,
        "backbone": job.backbone.model_dump(),
        "geometry": job.geometry.model_dump(),
        "seed": job.seed,
    }


@contextmanager
def _tracked(job: TrainingJob, dataset: Dataset) -> Iterator[OpenRun | None]:
    """A run in MLflow that losses go to; evaluate goes on with it. A training that breaks off is marked as failed
    there."""
    name = dataset.manifest.name
    run = open_run(
        job.tracking_uri,
        job.experiment,
        run_title(name, job.method, job.kfp_run),
        origin_tags(job.kfp_run),
        training=identity(_same_training(job, dataset)),
    )
    try:
        yield run
    except BaseException:
        if run:
            with contextlib.suppress(VqiError):
                run.fail()
        raise


def _sentence(method: str, training: Training) -> str:
    return (
        f"{method}: {training.steps} steps of {training.batch_size} images in {training.seconds:.0f} s "
        f"({training.images_per_second:.1f} images/s, "
        f"{100 * training.waited_share:.0f} % of the time waiting for data), ended by {training.stopped}"
    )
