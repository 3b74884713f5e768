"""The Bundle: a folder with the graphs, the index and one JSON sidecar that says everything a prediction needs. It runs
without torch.

    bundle.json           this module: preprocessing, inputs and outputs, thresholds and their guarantee, fingerprints,
                          versions, hashes
    model.onnx            the graph: `images` and the index tensors in, `score` and `map` out
    openvino/model.xml    the same graph for OpenVINO, with its weights in model.bin
    index.safetensors     the index tensors, where the method has any

A bundle may come from anywhere: its sidecar is parsed strictly, its files have fixed names and are checked against
their hashes before use.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, FiniteFloat, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass

from vqi.dataset.geometry import Geometry, GeometryEntry
from vqi.dataset.image_statistics import STATISTICS, StatisticRange
from vqi.dataset.images import Decoding
from vqi.dataset.splits import CalibrationKind
from vqi.evaluation.box_rule import Boxes
from vqi.evaluation.calibration import Calibration as Evidence
from vqi.platform.devices import Precision
from vqi.platform.errors import BadInput
from vqi.platform.files import sha256_of, write_json
from vqi.platform.records import Record
from vqi.storage.weights import WeightsOrigin

FORMAT: Literal["vqi-bundle/2"] = "vqi-bundle/2"
SIDECAR = "bundle.json"
ONNX = "model.onnx"
OPENVINO = "openvino/model.xml"
OPENVINO_WEIGHTS = "openvino/model.bin"
INDEX = "index.safetensors"
FILES = (ONNX, OPENVINO, OPENVINO_WEIGHTS, INDEX)

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
    precision: Literal["float32"] = "float32"
    opset: int
    bytes_per_image: int = Field(gt=0)

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
    geometry: GeometryEntry

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


class Sidecar(Record):
    """`bundle.json`. `parity` is what the gate measured; `metrics` are the test set's, for people."""

    format: Literal["vqi-bundle/2"] = FORMAT
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
    parity: dict[str, Any]
    versions: dict[str, str]
    files: dict[Literal["model.onnx", "openvino/model.xml", "openvino/model.bin", "index.safetensors"], FileEntry]

    @property
    def geometry(self) -> Geometry:
        return self.preprocessing.geometry.geometry

    @property
    def decoding(self) -> Decoding:
        return self.preprocessing.decoding


def file_entries(folder: Path) -> dict[Any, FileEntry]:
    """Hash and size of every file of the bundle that is in `folder`, by its name in the bundle."""
    present = [(name, folder / name) for name in FILES if (folder / name).is_file()]
    return {name: FileEntry(sha256=sha256_of(path), bytes=path.stat().st_size) for name, path in present}


def write_sidecar(folder: Path, sidecar: Sidecar) -> None:
    """Write `bundle.json`, the last file of a bundle."""
    write_json(Path(folder) / SIDECAR, sidecar.model_dump(mode="json"))


def read_sidecar(folder: Path) -> Sidecar:
    """Parse `bundle.json` strictly and check every file of the bundle against its hash.

    Raises BadInput where the sidecar is missing, of another format or malformed, and where a file is missing or
    differs.
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
    needed = {ONNX, OPENVINO, OPENVINO_WEIGHTS} | ({INDEX} if sidecar.graph.index else set())
    if missing := sorted(needed - set(sidecar.files)):
        raise BadInput(f"{path} does not name {missing[0]}; export again.")
    for name, entry in sidecar.files.items():
        file = folder / name
        if not file.is_file():
            raise BadInput(f"The bundle {folder} lacks its file {name}; copy it whole or export again.")
        if file.stat().st_size != entry.bytes or sha256_of(file) != entry.sha256:
            raise BadInput(
                f"The file {name} of the bundle {folder} is not the one that was exported (its SHA-256 differs); "
                "export again."
            )
    return sidecar


def _parsed(text: str, path: Path) -> Sidecar:
    try:
        value = json.loads(text)
        version = value.get("format") if isinstance(value, dict) else None
        if version != FORMAT:
            raise BadInput(f"{path} has format {version!r}, this version reads {FORMAT!r}; {_remedy(version)}.")
        # JSON has no tuples: validating the text itself lets arrays stand for them while staying strict about
        # everything else.
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
