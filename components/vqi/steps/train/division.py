"""Who learns from what, who sets the threshold and who decides when to stop: from content and seed alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from vqi.dataset.manifest import Sample
from vqi.dataset.reader import Dataset
from vqi.dataset.splits import CALIBRATION_FRACTION, held_out, held_out_by_type
from vqi.detectors.settings import settings_class
from vqi.platform.errors import BadInput
from vqi.training.settings import TrainSettings

# Held out for early stopping, so that the calibration normals have no say in which weights are taken.
STOPPING_FRACTION = 0.1


@dataclass(frozen=True)
class Division:
    """`learned` are trained on, `normals` are the good train images and are what an index is built from, `held_out` set the threshold, `stopping`
    decide when to stop (some of every type that is learnt), `observed` are test images whose maps are drawn and decide nothing.
    """

    learned: list[Sample]
    normals: list[Sample]
    held_out: list[Sample]
    stopping: list[Sample]
    observed: list[Sample]


def divide(dataset: Dataset, method: str, budgets: TrainSettings, calibration_fraction: float | None, seed: int) -> Division:
    """Who learns from what. Raises BadInput where a supervised method has no labelled defects."""
    normals, calibration = dataset.samples("train", "good"), dataset.samples("calibration", "good")
    if not calibration and calibration_fraction is None:
        chosen = held_out({sample.path: sample.sha256 for sample in normals}, CALIBRATION_FRACTION, seed, "calibration in train")
        calibration = [sample for sample in normals if sample.path in chosen]
        normals = [sample for sample in normals if sample.path not in chosen]
    learned = normals
    if settings_class(method).supervised:
        labelled = [sample for sample in dataset.samples("labelled") if sample.label != "unknown"]
        if not any(sample.label == "defect" for sample in labelled):
            raise BadInput(
                f"{method} learns from labelled defects, and the Dataset {dataset.manifest.name!r} has none in its labelled split; "
                "set data.labelled_fraction (0.8, for example) so that ingest moves a part of the test images there."
            )
        learned = normals + labelled
    chosen = held_out_by_type(_by_type(learned), STOPPING_FRACTION, seed, "stopping") if budgets.patience else set()
    stopping = [sample for sample in learned if sample.path in chosen]
    learned = [sample for sample in learned if sample.path not in chosen]
    test = dataset.samples("test")
    observed = [sample for sample in test if sample.label == "defect"][:: max(1, len(test) // 3)][:2]
    observed += [sample for sample in test if sample.label == "good"][:1]
    return Division(learned, normals, calibration, stopping, observed)


def _by_type(samples: Sequence[Sample]) -> dict[str, dict[str, str]]:
    """The hashes by path, by defect type (good is one)."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for sample in samples:
        found[sample.defect][sample.path] = sample.sha256
    return found
