"""The records of an evaluation: `results.json`, every number of it, and `examples.json`, the photographs that
comparisons show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_serializer, field_validator

from vqi.dataset.geometry import WholeGeometry
from vqi.dataset.manifest import Label
from vqi.detectors.settings import WholeBackbone
from vqi.evaluation.box_rule import Boxes
from vqi.evaluation.histogram import Histogram
from vqi.evaluation.metrics import Confusion
from vqi.evaluation.predictions import Decision
from vqi.evaluation.thresholds import Threshold
from vqi.evaluation.training_summary import TrainingSummary
from vqi.platform.devices import Precision
from vqi.platform.errors import BadInput
from vqi.platform.files import write_json
from vqi.platform.records import (
    FileRecord,
    Items,
    PartialRecord,
    Record,
    Triple,
    parse_json,
    parse_part,
    parse_record,
    read_record,
    write_record,
)
from vqi.storage.weights import WeightsOrigin

RESULTS, PREDICTIONS, EXAMPLES = "results.json", "predictions.csv", "examples.json"
REPORT = "report.html"
PICTURES, MAPS = "pictures", "maps"
REMEDY = "evaluate again"


class Metrics(PartialRecord):
    """The metrics of a test split, None where one is not defined on it. Only classifiers have two of the last, only
    sets with saturation thresholds (MVTec LOCO) sPRO, and only those with defects drawn as boxes their recall."""

    left_out: ClassVar[frozenset[str]] = frozenset(
        {"classifier_accuracy", "classifier_balanced_accuracy", "au_spro", "au_spro_05", "box_recall"}
    )

    image_auroc: float | None
    image_aupr: float | None
    image_f1_max: float | None
    accuracy: float | None
    balanced_accuracy: float | None
    recall: float | None
    precision: float | None
    false_reject_rate: float | None
    f1: float | None
    kappa: float | None
    confusion: Confusion
    pixel_auroc: float | None
    pixel_aupr: float | None
    pixel_f1_max: float | None
    aupro: float | None
    aupro_05: float | None
    pixel_accuracy: float | None
    pixel_iou: float | None
    pixel_miou: float | None
    pixel_dice: float | None
    pixel_kappa: float | None
    classifier_accuracy: float | None = None
    classifier_balanced_accuracy: float | None = None
    au_spro: float | None = None
    au_spro_05: float | None = None
    box_recall: float | None = None

    @property
    def numbers(self) -> dict[str, float | None]:
        """Every metric by its name; without what no metric is: the counts of decisions, and those left out."""
        names = [name for name in type(self).model_fields if name != "confusion"]
        numbers: dict[str, float | None] = {name: getattr(self, name) for name in names}
        return {name: value for name, value in numbers.items() if value is not None or name not in self.left_out}


class TypeMetrics(PartialRecord):
    """The metrics of one defect type, against all good images and all good pixels."""

    left_out: ClassVar[frozenset[str]] = frozenset({"box_recall"})

    images: int
    image_auroc: float | None
    recall: float | None
    pixel_auroc: float | None
    aupro: float | None
    pixel_recall: float | None
    box_recall: float | None = None


class Counts(PartialRecord):
    """What was measured on, and what from. `regions` of the masks; those that no pixel was left of are
    `regions_not_measurable`. `boxes`: defects drawn as boxes, None where none is."""

    left_out: ClassVar[frozenset[str]] = frozenset({"boxes"})

    test_images: int
    good: int
    defect: int
    unknown: int
    regions: int
    regions_not_measurable: int
    train_images: int
    labelled_images: int
    calibration_images: int
    masked_defect_images: int
    boxes: int | None = None


class Choice(Record):
    """What a false-reject rate would do: `rate`, as low as the calibration allows; what it promises on average
    (`promised`) and what one detector exceeds with a chance of 5 % (`rate_95`), None where nothing is promised; its
    threshold and the decisions there."""

    rate: float
    promised: float | None
    rate_95: float | None
    threshold: float
    confusion: Confusion


class NeighbourChoice(Choice):
    """A choice near the one `in_use`, or that one."""

    in_use: bool


class Decisive(Record):
    """What the threshold would be without one calibration photograph: any of `count`, of which the highest are
    named."""

    photographs: Items[str]
    count: int
    threshold: float
    confusion: Confusion


class Verdict(Record):
    """What a person reads first. `sentence`: the result; `text`: that and all that follows, a sentence each; `fine`:
    whether nothing went wrong; `choices`: the threshold in use and its neighbours; `decisive`: None where no photograph
    moves the threshold."""

    fine: bool
    sentence: str
    text: Items[str]
    choices: Items[NeighbourChoice] = ()
    decisive: Decisive | None = None


class TrackedAt(Record):
    """The MLflow run of an evaluation; `uri` without user name and password."""

    uri: str
    experiment: str
    run_id: str


class Results(FileRecord):
    """`results.json`. `settings` are the method's. `training` is None for methods that learn nothing by gradient.
    `mean_scores` by defect type, `roc` are rows of false-positive rate, true-positive rate and threshold."""

    format_name: ClassVar[str] = "vqi-results/1"
    remedy: ClassVar[str] = REMEDY
    left_out: ClassVar[frozenset[str]] = frozenset({"tracking"})

    name: str
    verdict: Verdict
    dataset_fingerprint: str
    method: str
    settings: dict[str, Any]
    backbone: WholeBackbone
    weights: WeightsOrigin
    geometry: WholeGeometry
    seed: int
    precision: Precision
    threshold: Threshold
    boxes: Boxes
    training: TrainingSummary | None
    metrics: Metrics
    per_defect: dict[str, TypeMetrics]
    mean_scores: dict[str, float]
    counts: Counts
    notes: Items[str]
    roc: Items[Triple[float]]
    histogram: Histogram
    trade_off: Items[Choice]
    versions: dict[str, str]
    tracking: TrackedAt | None = None

    # What learns nothing has an empty object here.
    @field_validator("training", mode="before")
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        return None if value == {} else value

    @field_serializer("training", mode="wrap")
    def _empty(self, value: Any, dump: Any) -> Any:
        return {} if value is None else dump(value)

    @property
    def run_id(self) -> str:
        """That of its MLflow run, "" where it has none."""
        return self.tracking.run_id if self.tracking else ""


def write_results(evaluation: Path, results: Results) -> None:
    """Write `results.json` into an evaluation."""
    write_record(Path(evaluation) / RESULTS, results)


def read_results(evaluation: Path) -> Results:
    """The results of an evaluation. Raises BadInput where they are missing, damaged or of another format."""
    return read_record(Results, Path(evaluation) / RESULTS, f": {evaluation} is not an output of the evaluate step")


def parse_results(text: str) -> Results:
    """The results in the text of a stored `results.json`. Raises BadInput as `read_results` does."""
    return parse_record(Results, text, RESULTS)


# Into a page it goes as it is; anything else stays out.
Picture = Annotated[str, Field(pattern=r"^data:image/webp;base64,[A-Za-z0-9+/]+={0,2}$")]


class ComparedPhotograph(Record):
    """A photograph as comparisons show it, with its heatmap: data addresses of WebP pictures."""

    path: str
    label: Label
    defect: str
    decision: Decision
    score: float
    photograph: Picture
    heatmap: Picture


def write_examples(evaluation: Path, photographs: Sequence[ComparedPhotograph]) -> None:
    """Write `examples.json` into an evaluation, a list without a format of its own."""
    write_json(Path(evaluation) / EXAMPLES, [photograph.values() for photograph in photographs])


def read_examples(evaluation: Path) -> tuple[ComparedPhotograph, ...]:
    """The photographs that an evaluation shows in comparisons. Raises BadInput where they are missing or damaged."""
    path = Path(evaluation) / EXAMPLES
    try:
        return parse_examples(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({type(error).__name__}); {REMEDY}.") from error


def parse_examples(text: str) -> tuple[ComparedPhotograph, ...]:
    """The photographs in the text of a stored `examples.json`. Raises BadInput where it is damaged."""
    value = parse_json(text, EXAMPLES, REMEDY)
    return parse_part(_Photographs, {"photographs": value}, EXAMPLES, REMEDY).photographs


class _Photographs(Record):
    photographs: Items[ComparedPhotograph]
