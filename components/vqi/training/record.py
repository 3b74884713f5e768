"""What a training leaves: the record of a run of the loop, that of a whole training, and what the network artefact
keeps of it; readable without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from vqi.dataset.geometry import WholeGeometry
from vqi.detectors.storage import NETWORK, NetworkRecord, read_network
from vqi.evaluation.cross_validation import CrossValidation
from vqi.evaluation.training_summary import Point, Stopped, TrainingSummary
from vqi.platform.devices import Precision
from vqi.platform.records import Items, PartialRecord, Record, parse_part

# The file beside the network with the maps of tracked images, after the first epoch and after the last.
TRACKED = "tracked.safetensors"


class LoopRecord(Record):
    """How a run of the loop went (see loop.Training)."""

    steps: int
    epochs: float
    batch_size: int
    micro_batches: int
    processes: int
    precision: Precision
    seconds: float
    images_per_second: float
    waited_share: float
    stopped: Stopped
    best_step: int
    points: Items[Point]


class PretrainingRecord(LoopRecord):
    """A run of the loop before the method's own, by its name."""

    name: str


class TrainingRecord(LoopRecord, PartialRecord):
    """A whole training. `held_out` are the photographs that set the threshold, `learned_images` and `tuning_images`
    count those learnt from and those the method's last computations take; `tracked` are those whose maps lie beside the
    network, in a file of `tracked_sha256`. `run_id`: its MLflow run, "" for none; `budgets`: its limits as they were
    set. `checkpoints`: where they lie; the artefact does not keep it.
    """

    left_out: ClassVar[frozenset[str]] = frozenset({"cross_validation", "pretraining", "tracked_sha256", "checkpoints"})

    cross_validation: CrossValidation | None = None
    pretraining: PretrainingRecord | None = None
    run_id: str
    held_out: Items[str]
    learned_images: int
    tuning_images: int
    tracked: Items[str]
    budgets: dict[str, Any]
    tracked_sha256: str | None = None
    checkpoints: str | None = None

    @property
    def summary(self) -> TrainingSummary:
        """What results keep of it."""
        return TrainingSummary(**{name: getattr(self, name) for name in TrainingSummary.model_fields})


class NetworkNotes(PartialRecord):
    """The `notes` of a network artefact: the data set it was made from, and how it learnt (None: it learnt nothing by
    gradient)."""

    left_out: ClassVar[frozenset[str]] = frozenset({"training"})

    dataset: str
    dataset_fingerprint: str
    geometry: WholeGeometry
    precision: Precision
    training: TrainingRecord | None = None

    @property
    def held_out(self) -> frozenset[str]:
        """The photographs that training held out for the threshold."""
        return frozenset(self.training.held_out if self.training else ())


def read_network_notes(network: Path) -> NetworkNotes:
    """The notes of a network artefact. Raises BadInput where they are not what train writes."""
    return notes_of(read_network(network), network)


def notes_of(record: NetworkRecord, network: Path) -> NetworkNotes:
    """The notes in the record of the artefact `network`. Raises BadInput where they are not what train writes."""
    return parse_part(NetworkNotes, record.notes, f"{Path(network) / NETWORK}, notes,", NetworkRecord.remedy)
