"""build_index: what normal looks like (memory bank, Gaussians, subspace), and the scores of normals it was not built
from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from vqi.dataset.loading import InputBatches
from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.dataset.splits import CalibrationKind
from vqi.dataset.tiling import united
from vqi.detectors.arrays import Array
from vqi.detectors.calibration import FOLDS, WHOLE, NormalScore, Photographs, cross_scores, scored
from vqi.detectors.embeddings import EMBEDDING_MEMORY, Embeddings
from vqi.detectors.indexed import Indexed
from vqi.detectors.part_storage import load_parts, save_part
from vqi.detectors.parts import (
    Coreset,
    FitsInParts,
    bounds_of_shards,
    cross_scores_of_parts,
    fit_shard,
    folds_by_normal,
)
from vqi.detectors.settings.fields import LeaveOutKind
from vqi.detectors.storage import load_for_index, read_network, save_index
from vqi.evaluation.calibration import CalibrationImage, CalibrationRecord, write_calibration
from vqi.platform.errors import BadInput
from vqi.platform.files import whole_folder
from vqi.platform.logs import logger
from vqi.steps.build_index.features import features_key, kept_features
from vqi.steps.build_index.settings import PartSettings, StepSettings
from vqi.training.record import NetworkNotes, read_network_notes

log = logger(__name__)


@dataclass(frozen=True)
class _Normals:
    """What an index is built from: the opened Dataset, the network and its notes, and which normals do what."""

    data: Dataset
    notes: NetworkNotes
    detector: Indexed
    fitted: list[Sample]
    held_out: list[Sample]
    promised: bool
    batch_size: int

    @staticmethod
    def of(settings: StepSettings, dataset: Path, network: Path) -> _Normals:
        """Raises BadInput where the network was trained on another Dataset."""
        data, compute = Dataset(dataset), settings.compute
        notes = read_network_notes(network)
        if notes.dataset_fingerprint != data.manifest.fingerprint:
            raise BadInput(
                f"The network {network} was trained on another Dataset than {dataset}; run train on this one."
            )
        normals = data.samples("train", "good")
        fitted = [sample for sample in normals if sample.path not in notes.held_out]
        held_out = data.samples("calibration", "good") or [s for s in normals if s.path in notes.held_out]
        # A part that another photograph of was learnt from does not score as a new one would.
        learnt = {s.group_key for s in data.samples(("train", "labelled")) if s.path not in notes.held_out}
        unseen = [sample for sample in held_out if sample.group_key not in learnt]
        if len(unseen) < len(held_out):
            log.warning(
                f"calibration: {len(held_out) - len(unseen)} of {len(held_out)} normals held out for the threshold "
                f"show parts that were learnt from; {'they are left out' if unseen else 'no rate can be promised'}"
            )
        detector = load_for_index(network, compute)
        return _Normals(data, notes, detector, fitted, unseen or held_out, bool(unseen), compute.batch_size)

    def batches(self, samples: Sequence[Sample], numbers: Sequence[int] | None = None) -> InputBatches:
        """The images of samples, or those of some numbers."""
        return InputBatches(self.data, samples, self.notes.geometry, self.batch_size, numbers=numbers)

    def images(self, numbers: Sequence[int]) -> InputBatches:
        return self.batches(self.fitted, numbers)

    def photographs(self, samples: Sequence[Sample]) -> Photographs:
        """How the images of samples become photographs."""
        geometry = self.notes.geometry
        if not (geometry.tile or geometry.area):
            return WHOLE

        def unite(
            scored: Iterator[tuple[float, np.ndarray]], numbers: Sequence[int]
        ) -> Iterator[tuple[float, np.ndarray]]:
            whole = united(scored, geometry.tiling)
            for number, (score, values) in zip(numbers, whole, strict=True):
                yield score, geometry.blank(values, (samples[number].height, samples[number].width))

        return Photographs(geometry.inputs, unite)

    def embedded(self, numbers: Sequence[int]) -> Iterator[Array]:
        return self.detector.embedded(self.images(numbers))

    @property
    def groups(self) -> list[str]:
        """Of each image."""
        return [sample.group_key for sample in self.fitted for _ in range(self.notes.geometry.inputs)]

    @property
    def fold_of(self) -> list[int]:
        """The fold that each image is left out with, 0 for all where others are held out."""
        return [0] * len(self.groups) if self.held_out else folds_by_normal(self.groups, self.detector.seed)


def index_part(settings: PartSettings, *, dataset: Path, network: Path, part: Path) -> None:
    """Write what stands for the normals of one of `compute.shards` shards: coresets, one for each fold that refits for
    the threshold will leave out. Raises BadInput as `build_index` does."""
    normals, shard, shards = _Normals.of(settings, dataset, network), settings.shard, settings.compute.shards
    each = normals.notes.geometry.inputs
    first, end = bounds_of_shards(len(normals.fitted), shards)[shard]
    log.info(f"shard {shard + 1} of {shards}: normals {first + 1} to {end} of {len(normals.fitted)}")
    detector, fold_of = cast(FitsInParts, normals.detector), normals.fold_of
    detector.begin_build(max(fold_of, default=0) + 1)
    coresets = fit_shard(detector, normals.embedded, range(first * each, end * each), fold_of)
    with whole_folder(part) as folder:
        save_part(
            folder,
            coresets,
            shard=shard,
            shards=shards,
            fingerprint=normals.data.manifest.fingerprint,
            network=Path(network),
        )


def build_index(
    settings: StepSettings,
    *,
    dataset: Path,
    network: Path,
    index: Path,
    parts: Sequence[Path] = (),
    features: Path | None = None,
) -> None:
    """Write the index artefact, built from all train normals, and beside it `calibration.json`.

    Calibration scores come from the calibration split where there is one, or the normals that train held out, else from
    folds: each train normal scored by an index that no photograph of its part is in (`Detector.left_out_scores`). Where
    the network itself was trained on all of them, or on other photographs of their parts, they are marked as seen: they
    promise nothing. Each score names its group: what is promised counts groups. With `parts`, which `index_part` wrote,
    one a shard, the index and those of folds are fitted to what stands for the normals. A build that was killed resumes
    from what it left below `features`. Raises BadInput where the network was trained on another Dataset, there are too
    few normals, or the parts are not those of this Dataset and network.
    """
    normals = _Normals.of(settings, dataset, network)
    data, notes, detector, held_out = normals.data, normals.notes, normals.detector, normals.held_out
    count, compute = len(normals.groups), settings.compute
    coresets = (
        load_parts(
            parts,
            shards=settings.compute.shards,
            fingerprint=data.manifest.fingerprint,
            network=Path(network),
            own=detector.own,
        )
        if parts
        else []
    )
    key = features_key(read_network(network), data.manifest.fingerprint, normals.fitted, compute)
    with kept_features(features, key) as kept:
        # In memory features are worth keeping only where refits will ask for them again.
        memory = 0 if held_out or notes.training else EMBEDDING_MEMORY
        embeddings = Embeddings(detector, normals.images, count, compute.batch_size, memory, kept)
        samples, folds, scores = _fit(normals, embeddings, coresets)
        kind: CalibrationKind = "split" if normals.promised else "seen" if held_out or notes.training else "cross"
        if data.manifest.copies_cross:  # what sets the threshold may be a copy of what was learnt from
            kind = "seen"
        images = tuple(
            CalibrationImage(path=sample.path, group=sample.group_key, **score._asdict())
            for sample, score in zip(samples, scores, strict=True)
        )
        indices: LeaveOutKind | None = None
        if folds:
            indices = "pools" if coresets else detector.leave_out_kind
        parts_count = len({sample.group_key for sample in (*normals.fitted, *held_out)})
        with whole_folder(index) as folder:
            save_index(detector, folder, Path(network))
            write_calibration(
                folder, CalibrationRecord(kind=kind, folds=folds, indices=indices, parts=parts_count, images=images)
            )


def _fit(
    normals: _Normals, embeddings: Embeddings, coresets: Sequence[Sequence[Coreset]]
) -> tuple[list[Sample], int | None, list[NormalScore]]:
    """Fit the detector's index; the photographs that set the threshold, the folds they were left out with (None: they
    were held out), and their scores."""
    detector, held_out, count = normals.detector, normals.held_out, embeddings.count
    photographs = normals.photographs(normals.fitted)
    detector.begin_build(1 if held_out else 1 + min(FOLDS, len(normals.fitted)))
    if coresets:
        everything = [coreset for each in coresets for coreset in each]
        detector.index = cast(FitsInParts, detector).fit_union(everything, count)
    else:
        detector.index = detector.fit(embeddings.of(range(count)), count)
    if held_out:
        embedded, numbers = detector.embedded(normals.batches(held_out)), range(len(held_out))
        of_held_out = normals.photographs(held_out)
        return held_out, None, list(scored(detector, embedded, detector.index, of_held_out, numbers))
    if normals.notes.training and not detector.index:
        numbers = range(len(normals.fitted))
        return (
            normals.fitted,
            None,
            list(scored(detector, embeddings.of(range(count)), detector.index, photographs, numbers)),
        )
    if coresets:
        scores = cross_scores_of_parts(cast(FitsInParts, detector), embeddings, coresets, normals.fold_of, photographs)
        return normals.fitted, len(coresets), scores
    folds, scores = cross_scores(detector, embeddings, normals.groups, photographs=photographs)
    return normals.fitted, folds, scores
