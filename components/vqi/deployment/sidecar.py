"""What `bundle.json` holds: a strict model of it and of its parts."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, FiniteFloat, field_serializer, field_validator, model_validator
from pydantic.dataclasses import dataclass

from vqi.dataset.alignment import Reference
from vqi.dataset.decoding import ADDED, Decoding
from vqi.dataset.geometry import Geometry, WholeGeometry
from vqi.dataset.image_statistics import STATISTICS, StatisticRange
from vqi.dataset.splits import CalibrationKind
from vqi.deployment.bundle_files import BUNDLE_FILE, NAME, PACKAGE, PRECISION
from vqi.evaluation.box_rule import Boxes
from vqi.evaluation.calibration import Calibration as Evidence
from vqi.platform.devices import Precision
from vqi.platform.records import PartialRecord, Record
from vqi.storage.weights import WeightsOrigin

FORMAT: Literal["vqi-bundle/4"] = "vqi-bundle/4"
# Without golden photographs, and else as today's.
EARLIER_FORMAT: Literal["vqi-bundle/3"] = "vqi-bundle/3"

# What one batch may hold at its largest point where the user does not say: PatchCore's distances of a batch to a bank
# of 16,000 are 65 MB an image.
BATCH_BYTES = 512 * 2**20
MAX_BATCH = 8

Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class FileEntry(Record):
    sha256: str = Sha256
    bytes: int = Field(ge=0)


class IndexTensor(Record):
    """One named graph input beside `images`."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")
    dtype: Literal["float32", "float64", "int64", "int32", "bool"]
    shape: list[int]


class Graph(Record):
    """`bytes_per_image`: the largest intermediate tensor of one image, with the index of this bundle; what a batch must
    be bounded by."""

    input: Literal["images"] = "images"
    input_shape: list[int | None]
    outputs: tuple[Literal["score"], Literal["map"]] = ("score", "map")
    index: list[IndexTensor]
    bytes_per_image: int = Field(gt=0)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the images, pixels."""
        height, width = (side or 0 for side in self.input_shape[2:])
        return height, width

    @property
    def batch_size(self) -> int:
        """Images a batch that keep the largest intermediate below BATCH_BYTES, at least 1."""
        return max(1, min(MAX_BATCH, BATCH_BYTES // self.bytes_per_image))


@dataclass(config=ConfigDict(extra="forbid", strict=True), frozen=True)
class DecodingEntry(Decoding):
    """How a file becomes pixels: every field of the Dataset's `decoding`, read strictly."""


@dataclass(config=ConfigDict(extra="forbid", strict=True), frozen=True)
class ReferenceEntry(Reference):
    """What photographs are aligned to: every field of the Dataset's `reference`, read strictly."""


class Preprocessing(PartialRecord):
    """How a photograph becomes `images`; the backbone's normalisation is inside the graph. `alignment` comes between
    decoding and geometry; None where photographs are taken as they lie."""

    left_out: ClassVar[frozenset[str]] = frozenset({"alignment"})

    decoding: DecodingEntry

    colour: Literal["RGB"] = "RGB"
    range: tuple[Literal[0], Literal[1]] = (0, 1)
    resize: Literal["antialiased bilinear"] = "antialiased bilinear"
    normalisation: Literal["inside the graph"] = "inside the graph"
    geometry: WholeGeometry
    alignment: ReferenceEntry | None = None

    @field_validator("decoding", mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        """A field that is missing would silently be its default, and files would become other pixels than in
        training."""
        if isinstance(value, dict) and (
            missing := [field.name for field in fields(Decoding) if field.name not in (*ADDED, *value)]
        ):
            raise ValueError(f"{missing[0]} is missing")
        return value

    @field_serializer("decoding")
    def _as_before(self, value: DecodingEntry) -> dict[str, bool | int | float | None]:
        """A sidecar of an earlier version is written again as it was."""
        return value.to_dict()


class Thresholds(Record):
    """An image is a defect where its score lies above `image`, a pixel where the map lies above `pixel` (None: no boxes
    are drawn).

    `floor` is the map's value where nothing is amiss: where the colours of pictures begin.
    """

    image: FiniteFloat
    pixel: FiniteFloat | None
    floor: FiniteFloat = 0.0


class CalibrationScore(Record):
    """What one calibration photograph scored: the image, and the maximum and the median of its map."""

    score: FiniteFloat
    map_max: FiniteFloat
    map_median: FiniteFloat


class Calibration(Record):
    """How the thresholds came about: from held-out normals (`split`) or from k-fold refits (`cross`), and what that
    guarantees.

    `precision` is the network's when they were taken. Where it is not the bundle's float32, `precision_shift` says by
    how much scores of the two deviate on the images of the parity gate (its formula), for a person to judge whether the
    guarantee carries over. `requested_false_reject_rate` is None where the threshold was set by hand,
    `false_reject_rate` where none is promised (`seen`). `scores` are what any other threshold is judged by.
    """

    precision: Precision
    precision_shift: FiniteFloat | None
    kind: CalibrationKind
    images: int
    folds: int | None
    requested_false_reject_rate: float | None
    false_reject_rate: float | None
    guarantee: str
    scores: list[CalibrationScore] = Field(min_length=1)

    @property
    def evidence(self) -> Evidence:
        """The calibration as thresholds are made from it; photographs have numbers in place of their paths, which stay
        where they were trained on.
        """
        return Evidence(
            kind=self.kind,
            folds=self.folds,
            paths=tuple(f"calibration photograph {number}" for number in range(1, len(self.scores) + 1)),
            scores=tuple(entry.score for entry in self.scores),
            map_maxima=tuple(entry.map_max for entry in self.scores),
            map_medians=tuple(entry.map_median for entry in self.scores),
        )


class RangeEntry(Record):
    """What the photographs examined have, and what passes (None: any value)."""

    lowest: FiniteFloat
    highest: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None


class Plausibility(Record):
    """What good photographs of this set are like (vqi.dataset.image_statistics), from `images` of the `normals` there
    were.

    `false_alarm_rate` is the share of good photographs that are expected outside of any range.
    """

    images: int = Field(ge=1)
    normals: int = Field(ge=1)
    false_alarm_rate: float = Field(gt=0, le=1)
    ranges: dict[str, RangeEntry]

    @model_validator(mode="after")
    def _whole(self) -> Plausibility:
        if set(self.ranges) != set(STATISTICS):
            raise ValueError(f"the ranges are those of {', '.join(STATISTICS)}")
        return self

    @property
    def sentence(self) -> str:
        rate = f"{100 * self.false_alarm_rate:.2g} %"
        return (
            f"Implausible: outside of what {self.images} good photographs of the set have in size, light and "
            "sharpness; "
            f"about {rate} of good photographs, or fewer, are expected there."
        )

    @property
    def limits(self) -> dict[str, StatisticRange]:
        return {name: StatisticRange(**entry.model_dump()) for name, entry in self.ranges.items()}


class DatasetEntry(Record):
    name: str
    fingerprint: str = Sha256


class Deviation(Record):
    """The largest deviations of one format's graph at one batch size, and how many decisions flipped
    (vqi.deployment.parity)."""

    batch: int = Field(ge=1)
    score: float
    map: float
    flipped: int = Field(ge=0)


class Accuracy(Record):
    """What a format that is judged by the test split reaches on it, by its own thresholds where it has any: metrics
    (None where one is not defined), the share of right decisions, and how many of the `images` it decides otherwise
    than the detector."""

    image_auroc: float | None
    pixel_auroc: float | None
    aupro: float | None
    accuracy: float | None
    images: int
    differ: int


class OwnThresholds(Record):
    """The thresholds of a format, from what it scores the calibration photographs itself, and what they promise."""

    thresholds: Thresholds
    guarantee: str
    false_reject_rate: float | None
    scores: list[CalibrationScore] = Field(min_length=1)


class LeftOut(Record):
    """A format that was written and judged, and is not inside: why, and its figures (see FormatEntry)."""

    reason: str
    size_mib: float
    latency_ms: float | None
    latency_8_ms: float | None
    deviations: list[Deviation]
    accuracy: Accuracy | None


class FormatEntry(Record):
    """One format inside. `deviations` are what the parity gate measured, within `tolerance`; `latency_ms` is one image
    alone on the machine that exported, `latency_8_ms` eight together; `install` is the package that runs it; `notes`
    are the format's own, for people. `own` are its thresholds, where they are not the bundle's.

    Keys that are not known here are kept: they are an error in a format that this version knows (read_sidecar), and
    another version's affair in one that it does not.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    backend: str = Field(pattern=NAME)
    precision: str = Field(pattern=PRECISION)
    install: str = Field(pattern=PACKAGE)
    tolerance: float
    deviations: list[Deviation]
    latency_ms: float | None
    latency_8_ms: float | None = None
    accuracy: Accuracy | None = None
    own: OwnThresholds | None = None
    notes: dict[str, bool | int | float | str]
    files: dict[Annotated[str, Field(pattern=BUNDLE_FILE)], FileEntry]

    @property
    def largest_deviation(self) -> float:
        """Of scores and maps, at any batch; 0 where nothing was measured."""
        return max((max(deviation.score, deviation.map) for deviation in self.deviations), default=0.0)

    @property
    def flipped(self) -> int:
        """Decisions that differ from the detector's, at the batch size where most do."""
        return max((deviation.flipped for deviation in self.deviations), default=0)

    @property
    def size_mib(self) -> float:
        return sum(entry.bytes for entry in self.files.values()) / 2**20


class Parity(Record):
    """How the gate compared the graphs with the detector: what a deviation is, and on how many photographs."""

    formula: str
    images: int


class Golden(Record):
    """How the detector scored the photographs in `golden.safetensors`, in their order, by the precision it computed
    in."""

    scores: dict[Precision, list[FiniteFloat]]

    @model_validator(mode="after")
    def _whole(self) -> Golden:
        if not self.scores.get("float32") or len({len(scores) for scores in self.scores.values()}) > 1:
            raise ValueError("there are scores in float32, and as many in every other precision")
        return self


class SidecarBase(Record):
    """What every version of the sidecar that is read here has. `metrics` are the test set's, for people."""

    name: str
    method: str
    settings: dict[str, Any]
    backbone: dict[str, Any]
    weights: WeightsOrigin
    seed: int
    dataset: DatasetEntry
    preprocessing: Preprocessing
    graph: Graph
    thresholds: Thresholds
    boxes: Boxes
    calibration: Calibration
    plausibility: Plausibility
    metrics: dict[str, Any]
    versions: dict[str, str]

    @property
    def geometry(self) -> Geometry:
        return self.preprocessing.geometry

    @property
    def decoding(self) -> Decoding:
        return self.preprocessing.decoding

    @property
    def reference(self) -> Reference | None:
        return self.preprocessing.alignment


class Sidecar(SidecarBase):
    """`bundle.json`. `formats` are the forms of the graph inside, by name, `left_out` those that were judged too
    inaccurate; `files` are what the formats share."""

    format: Literal["vqi-bundle/4", "vqi-bundle/3"] = FORMAT
    parity: Parity
    formats: dict[Annotated[str, Field(pattern=NAME)], FormatEntry]
    left_out: dict[Annotated[str, Field(pattern=NAME)], LeftOut] = Field(default_factory=dict)
    golden: Golden | None = None
    files: dict[Literal["index.safetensors", "golden.safetensors"], FileEntry]

    def entry_of(self, backend: str) -> FormatEntry:
        """What is inside for a backend."""
        return next(entry for entry in self.formats.values() if entry.backend == backend)

    def for_backend(self, backend: str) -> Sidecar:
        """The same, with the thresholds and the promise that hold for what this backend runs."""
        own = self.entry_of(backend).own
        if own is None:
            return self
        calibration = {
            "guarantee": own.guarantee,
            "false_reject_rate": own.false_reject_rate,
            "scores": own.scores,
            "precision_shift": None,
        }
        return self.model_copy(
            update={"thresholds": own.thresholds, "calibration": self.calibration.model_copy(update=calibration)}
        )
