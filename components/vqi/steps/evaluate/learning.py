"""What the train step left for the report: the history of the losses, and maps of a few images from the first epoch and
the last."""

from __future__ import annotations

from pathlib import Path

from vqi.dataset.geometry import Geometry
from vqi.dataset.reader import Dataset
from vqi.evaluation.learning import Learning, TrackedImage
from vqi.platform.errors import BadInput
from vqi.platform.files import sha256_of
from vqi.training.record import TRACKED, TrainingRecord


def learning(network: Path, record: TrainingRecord | None, data: Dataset, geometry: Geometry) -> Learning | None:
    """How the network of an artefact learnt, or None where it did not. Images that are not in `data` are left out.

    Raises BadInput where the maps beside the network are not those it was stored with.
    """
    if record is None:
        return None
    file = Path(network) / TRACKED
    tracked = []
    if record.tracked_sha256 and file.is_file():
        from safetensors.numpy import load_file

        if sha256_of(file) != record.tracked_sha256:
            raise BadInput(f"{file} was changed after training; run train again.")
        maps, samples = load_file(file), {sample.path: sample for sample in data.samples()}
        for number, path in enumerate(record.tracked):
            if path in samples:
                tracked.append(
                    TrackedImage(path, data.seen(samples[path], geometry), maps["first"][number], maps["last"][number])
                )
    return Learning(record.summary, record.points, tracked)
