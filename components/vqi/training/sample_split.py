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
# Held out for what a method computes from normals at the end of its training (`tunes_on_normals`), such as the scales
# of its maps: a threshold is promised for scores that its own normals had no say in.
TUNING_FRACTION = 0.1
# With fewer parts to learn from none is held out for that.
FEWEST_FOR_TUNING = 20


@dataclass(frozen=True)
class SampleSplit:
    """`learned` are trained on, `normals` are the good train images and are what an index is built from, `held_out` set
    the threshold, `stopping` decide when to stop (some of every type that is learnt), `tuning` are what the method's
    last computations take in place of what it learnt from (empty: those), `tracked` are test images whose maps are
    drawn and decide nothing. Photographs of one group are all in one of them.
    """

    learned: list[Sample]
    normals: list[Sample]
    held_out: list[Sample]
    stopping: list[Sample]
    tuning: list[Sample]
    tracked: list[Sample]


def split_samples(
    dataset: Dataset, method: str, budgets: TrainSettings, calibration_fraction: float | None, seed: int
) -> SampleSplit:
    """Who learns from what. Raises BadInput where a supervised method has no labelled defects."""
    normals, calibration = dataset.samples("train", "good"), dataset.samples("calibration", "good")
    if not calibration and calibration_fraction is None:
        normals, calibration = _split_off(normals, CALIBRATION_FRACTION, seed, "calibration in train")
    learned = normals
    tuning: list[Sample] = []
    if settings_class(method).tunes_on_normals and len({sample.group_key for sample in normals}) >= FEWEST_FOR_TUNING:
        learned, tuning = _split_off(normals, TUNING_FRACTION, seed, "tuning")
    if settings_class(method).supervised:
        labelled = [sample for sample in dataset.samples("labelled") if sample.label != "unknown"]
        if not any(sample.label == "defect" for sample in labelled):
            raise BadInput(
                f"{method} learns from labelled defects, and the Dataset {dataset.manifest.name!r} has none in its "
                "labelled "
                "split; set data.labelled_fraction (0.8, for example) so that ingest moves a part of the test images "
                "there."
            )
        learned = learned + labelled
    chosen = held_out_by_type(_by_type(learned), STOPPING_FRACTION, seed, "stopping") if budgets.patience else set()
    stopping = [sample for sample in learned if sample.path in chosen]
    learned = [sample for sample in learned if sample.path not in chosen]
    test = dataset.samples("test")
    tracked = [sample for sample in test if sample.label == "defect"][:: max(1, len(test) // 3)][:2]
    tracked += [sample for sample in test if sample.label == "good"][:1]
    return SampleSplit(learned, normals, calibration, stopping, tuning, tracked)


def few_for_tuning(method: str) -> str:
    """What is given up where there are too few normals to tune with others than those learnt from."""
    return (
        f"{method}: fewer than {FEWEST_FOR_TUNING} good parts to learn from, so that none is held out for the scales "
        "of its maps: "
        "these come from what it has learnt, and weigh its maps less well. What the threshold promises is not touched."
    )


def _split_off(
    samples: Sequence[Sample], fraction: float, seed: int, purpose: str
) -> tuple[list[Sample], list[Sample]]:
    """What stays of `samples`, and the `fraction` of their groups that is held out for `purpose`."""
    chosen = held_out({sample.path: sample.group_key for sample in samples}, fraction, seed, purpose)
    return [s for s in samples if s.path not in chosen], [s for s in samples if s.path in chosen]


def _by_type(samples: Sequence[Sample]) -> dict[str, dict[str, str]]:
    """The groups by path, by defect type (good is one)."""
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for sample in samples:
        groups[sample.defect][sample.path] = sample.group_key
    return groups
