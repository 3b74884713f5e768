"""The Bundle: a folder with the graphs, the index and one JSON sidecar that says everything a prediction needs. It runs
without torch.

    bundle.json           this module: preprocessing, inputs and outputs, thresholds and their guarantee, fingerprints,
                          versions, the formats inside, hashes
    index.safetensors     the index tensors, where the method has any
    model.onnx ...        the graph: `images` and the index tensors in, `score` and `map` out; in one or more formats,
                          each with files of its own (vqi.deployment.exports)

A bundle may come from anywhere: its sidecar is parsed strictly, and the files of every format that is known here are
those the format states and are checked against their hashes before use. Formats that are not known here are ignored.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, FiniteFloat, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass

from vqi.dataset.geometry import Geometry, WholeGeometry
from vqi.dataset.image_statistics import STATISTICS, StatisticRange
from vqi.dataset.images import Decoding
from vqi.dataset.splits import CalibrationKind
from vqi.deployment.bundle_files import INDEX, SIDECAR
from vqi.deployment.exports import BUNDLE_FILE, NAME, PACKAGE, PRECISION, ExportFormat, export_formats
from vqi.deployment.exports.export_format import covers
from vqi.evaluation.box_rule import Boxes
from vqi.evaluation.calibration import Calibration as Evidence
from vqi.platform.devices import Precision
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.files import sha256_of, write_json
from vqi.platform.records import Record
from vqi.storage.weights import WeightsOrigin

FORMAT: Literal["vqi-bundle/3"] = "vqi-bundle/3"
EARLIER_FORMAT: Literal["vqi-bundle/2"] = "vqi-bundle/2"

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


class Preprocessing(Record):
    """How a photograph becomes `images`; the backbone's normalisation is inside the graph."""

    decoding: DecodingEntry

    colour: Literal["RGB"] = "RGB"
    range: tuple[Literal[0], Literal[1]] = (0, 1)
    resize: Literal["antialiased bilinear"] = "antialiased bilinear"
    normalisation: Literal["inside the graph"] = "inside the graph"
    geometry: WholeGeometry

    @field_validator("decoding", mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        """A field that is missing would silently be its default, and files would become other pixels than in
        training."""
        if isinstance(value, dict) and (
            missing := [field.name for field in fields(Decoding) if field.name not in value]
        ):
            raise ValueError(f"{missing[0]} is missing")
        return value


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


class FormatEntry(Record):
    """One format inside. `deviations` are what the parity gate measured, within `tolerance`; `latency_ms` is one image
    alone on the machine that exported; `install` is the package that runs it; `notes` are the format's own, for people.

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
    notes: dict[str, bool | int | float | str]
    files: dict[Annotated[str, Field(pattern=BUNDLE_FILE)], FileEntry]

    @property
    def largest_deviation(self) -> float:
        """Of scores and maps, at any batch; 0 where nothing was measured."""
        return max((max(deviation.score, deviation.map) for deviation in self.deviations), default=0.0)

    @property
    def size_mib(self) -> float:
        return sum(entry.bytes for entry in self.files.values()) / 2**20


class Parity(Record):
    """How the gate compared the graphs with the detector: what a deviation is, and on how many photographs."""

    formula: str
    images: int


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


class Sidecar(SidecarBase):
    """`bundle.json`. `formats` are the forms of the graph inside, by name; `files` are what they share."""

    format: Literal["vqi-bundle/3"] = FORMAT
    parity: Parity
    formats: dict[Annotated[str, Field(pattern=NAME)], FormatEntry]
    files: dict[Literal["index.safetensors"], FileEntry]


def shared_files(folder: Path) -> dict[Literal["index.safetensors"], FileEntry]:
    """Hash and size of what the formats of a bundle in `folder` share."""
    return {INDEX: _file_entry(folder / INDEX)} if (folder / INDEX).is_file() else {}


def format_files(export_format: ExportFormat, folder: Path) -> dict[str, FileEntry]:
    """Hash and size of every file of a format in the bundle `folder`, by its name in the bundle.

    Raises RunFailed where one that the format states is missing.
    """
    names: list[str] = []
    for name in export_format.files:
        held = sorted((folder / name).rglob("*")) if name.endswith("/") else [folder / name]
        files = [path.relative_to(folder).as_posix() for path in held if path.is_file()]
        if not files:
            raise RunFailed(f"The export format {export_format.name} did not write its file {name}; mend the format.")
        if unusable := [file for file in files if not re.fullmatch(BUNDLE_FILE, file)]:
            raise RunFailed(
                f"The export format {export_format.name} wrote {unusable[0]!r}; names in a bundle are of letters, "
                "digits, '_', '.' and '-', and do not begin with '.' or '-'; mend the format."
            )
        names += files
    return {name: _file_entry(folder / name) for name in names}


def _file_entry(path: Path) -> FileEntry:
    return FileEntry(sha256=sha256_of(path), bytes=path.stat().st_size)


def write_sidecar(folder: Path, sidecar: Sidecar) -> None:
    """Write `bundle.json`, the last file of a bundle."""
    write_json(Path(folder) / SIDECAR, sidecar.model_dump(mode="json"))


def read_sidecar(folder: Path) -> Sidecar:
    """Parse `bundle.json` strictly and check the files of every format that is known here against their hashes.

    A bundle of the format before this one is read too. Raises BadInput where the sidecar is missing, of another format
    or malformed, and where a file is missing or differs.
    """
    folder = Path(folder)
    path = folder / SIDECAR
    try:
        text = path.read_text(encoding="utf-8")
        sidecar = _parsed(text, path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if folder.is_symlink() and not folder.exists():
            aim = folder.readlink()
            raise BadInput(
                f"{folder} is a link to {aim}, which is not here; copy the folder itself (cp -rL, rsync -L)."
            ) from error
        raise BadInput(
            f"{folder} is not a bundle: {SIDECAR} is missing; give the folder the export step wrote."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read ({type(error).__name__}); export again.") from error
    known = export_formats()
    if sidecar.graph.index and INDEX not in sidecar.files:
        raise BadInput(f"{path} does not name {INDEX}; export again.")
    for file, entry in sidecar.files.items():
        _check_file(folder, file, entry)
    for name, inside in sidecar.formats.items():
        if name in known:
            _check_format(folder, known[name], inside)
    return sidecar


def _check_format(folder: Path, export_format: ExportFormat, inside: FormatEntry) -> None:
    """Raise BadInput where a format's entry or files are not what the format states, or differ from their hashes."""
    path, name = folder / SIDECAR, export_format.name
    if inside.model_extra:
        raise BadInput(
            f"{path} is malformed at formats.{name}.{next(iter(inside.model_extra))} (this version knows no such key); "
            "export again, or use the version of vqi that made it."
        )
    for stated in export_format.files:
        if not any(covers(stated, file) for file in inside.files):
            raise BadInput(f"{path} does not name {stated} of its format {name}; export again.")
    for file, entry in inside.files.items():
        if not export_format.owns(file):
            raise BadInput(
                f"{path} is malformed at formats.{name}.files.{file} (not a file of this format); export again."
            )
        _check_file(folder, file, entry, f" of its format {name}")


def _check_file(folder: Path, name: str, entry: FileEntry, owner: str = "") -> None:
    file = folder / name
    if not file.is_file():
        raise BadInput(f"The bundle {folder} lacks its file {name}{owner}; copy it whole or export again.")
    if file.stat().st_size != entry.bytes or sha256_of(file) != entry.sha256:
        raise BadInput(
            f"The file {name} of the bundle {folder}{',' if owner else ''}{owner}{',' if owner else ''} is not the one "
            "that was exported (its SHA-256 differs); export again."
        )


def _parsed(text: str, path: Path) -> Sidecar:
    try:
        value = json.loads(text)
        version = value.get("format") if isinstance(value, dict) else None
        if version not in (FORMAT, EARLIER_FORMAT):
            raise BadInput(f"{path} has format {version!r}, this version reads {FORMAT!r}; {_remedy(version)}.")
        # JSON has no tuples: validating the text itself lets arrays stand for them while staying strict about
        # everything else.
        if version == EARLIER_FORMAT:
            from vqi.deployment.bundle_2 import Sidecar2

            sidecar = Sidecar2.model_validate_json(text).as_current()
        else:
            sidecar = Sidecar.model_validate_json(text)
        height, width = sidecar.geometry.input_size
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(
            f"{path} is malformed at {'.'.join(map(str, first['loc']))} ({first['msg']}); export again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not readable JSON ({type(error).__name__}); export again.") from error
    if sidecar.graph.input_shape != [None, 3, height, width]:
        raise BadInput(
            f"{path} contradicts itself: the graph takes {sidecar.graph.input_shape}, the geometry {height} x "
            f"{width}; export again."
        )
    return sidecar


def _remedy(version: Any) -> str:
    """What to do about a sidecar of another format."""
    if not (isinstance(version, str) and re.fullmatch(r"vqi-bundle/\d{1,4}", version)):
        return "export again"
    if int(version.rpartition("/")[2]) > int(FORMAT.rpartition("/")[2]):
        return "a newer vqi made it: use that version here"
    lacking = "it does not hold how files are decoded, the calibration scores and the plausible ranges"
    return f"{lacking}: run the category again, or use the version of vqi that made it"
