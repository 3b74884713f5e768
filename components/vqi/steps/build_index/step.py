"""build_index: what normal looks like (memory bank, Gaussians, subspace), and the scores of normals it was not built
from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vqi.batches.scoring import TensorBatches
from vqi.dataset.reader import Dataset
from vqi.dataset.splits import CalibrationKind
from vqi.detectors.calibration import FOLDS, Embeddings, cross_scores, scored
from vqi.detectors.compute import to_device
from vqi.detectors.storage import load_network, save_index
from vqi.evaluation.calibration import CalibrationImage, CalibrationRecord, write_calibration
from vqi.platform.errors import BadInput
from vqi.platform.files import whole_folder
from vqi.platform.logs import logger
from vqi.steps.build_index.settings import StepSettings
from vqi.training.record import read_network_notes

log = logger(__name__)


def build_index(settings: StepSettings, *, dataset: Path, network: Path, index: Path) -> None:
    """Write the index artefact, built from all train normals, and beside it `calibration.json`.

    Calibration scores come from the calibration split where there is one, or the normals that train held out, else from
    folds: each train normal scored by an index that no photograph of its part is in (`Detector.leave_out`). Where the
    network itself was trained on all of them, or on other photographs of their parts, they are marked as seen: they
    promise nothing. Each score names its group: what is promised counts groups. Raises BadInput where the network was
    trained on another Dataset, or there are too few normals.
    """
    data, compute = Dataset(dataset), settings.compute
    notes = read_network_notes(network)
    if notes.dataset_fingerprint != data.manifest.fingerprint:
        raise BadInput(f"The network {network} was trained on another Dataset than {dataset}; run train on this one.")
    geometry = notes.geometry
    detector = to_device(load_network(network), compute)
    held_out_paths = notes.held_out
    normals = [sample for sample in data.samples("train", "good") if sample.path not in held_out_paths]

    def batches(numbers: Sequence[int]) -> TensorBatches:
        return TensorBatches(data, [normals[number] for number in numbers], geometry, compute.batch_size)

    held_out = data.samples("calibration", "good") or [
        s for s in data.samples("train", "good") if s.path in held_out_paths
    ]
    # A part that another photograph of was learnt from does not score as a new one would.
    learnt = {sample.group_key for sample in data.samples(("train", "labelled")) if sample.path not in held_out_paths}
    unseen = [sample for sample in held_out if sample.group_key not in learnt]
    if len(unseen) < len(held_out):
        log.warning(
            f"calibration: {len(held_out) - len(unseen)} of {len(held_out)} normals held out for the threshold show "
            "parts that "
            f"were learnt from; {'they are left out' if unseen else 'no rate can be promised'}"
        )
    promised, held_out = bool(unseen), unseen or held_out
    # Features are worth keeping only where refits will ask for them again.
    embeddings = Embeddings(
        detector, batches, len(normals), compute.batch_size, **({"memory": 0} if held_out or notes.training else {})
    )
    detector.begin_build(1 if held_out else 1 + min(FOLDS, len(normals)))
    detector.index = detector.fit(embeddings.of(range(len(normals))), len(normals))
    if held_out:
        folds, samples = None, held_out
        scores = list(
            scored(
                detector,
                detector.embedded(TensorBatches(data, held_out, geometry, compute.batch_size)),
                detector.index,
            )
        )
    elif notes.training and not detector.index:
        folds, samples, scores = (
            None,
            normals,
            list(scored(detector, embeddings.of(range(len(normals))), detector.index)),
        )
    else:
        samples = normals
        folds, scores = cross_scores(detector, embeddings, [sample.group_key for sample in normals])
    kind: CalibrationKind = "split" if promised else "seen" if held_out or notes.training else "cross"
    if data.manifest.copies_cross:  # what sets the threshold may be a copy of what was learnt from
        kind = "seen"
    images = tuple(
        CalibrationImage(path=sample.path, group=sample.group_key, **score._asdict())
        for sample, score in zip(samples, scores, strict=True)
    )
    indices = detector.leave_out_kind if folds else None
    parts = len({sample.group_key for sample in (*normals, *held_out)})
    with whole_folder(index) as folder:
        save_index(detector, folder, Path(network))
        write_calibration(
            folder, CalibrationRecord(kind=kind, folds=folds, indices=indices, parts=parts, images=images)
        )
