"""The Dataset contract: one manifest, a row a sample, beside plain tar shards that hold the files as they came."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from vqi.dataset.alignment import Alignment, Reference
from vqi.dataset.decoding import DEFAULT, Decoding
from vqi.dataset.extents import Extent
from vqi.dataset.masks import BLACK_BACKGROUND, MaskMeaning
from vqi.dataset.saturation import Saturation
from vqi.platform.errors import BadInput
from vqi.platform.files import canonical_json

FORMAT = "vqi-dataset/3"
# Formats without boxes, metadata and saturation, which are read as well.
_OLDER = ("vqi-dataset/2",)
# What a fingerprint is taken over begins with the first format that has it, so that one set has one fingerprint.
_FINGERPRINT = "vqi-dataset/2"
MANIFEST = "manifest.json"

Split = Literal["train", "labelled", "calibration", "validation", "test"]
Label = Literal["good", "defect", "unknown"]
# How a mask's values become defect: a mask file as the whole set's mask_meaning says; what ingest drew is white on
# black. A box says where a defect lies and not what shape it has.
MaskKind = Literal["file", "outline", "box"]
# Left, top, right and bottom edge in pixels; right and bottom lie past the last pixel.
PixelBox = tuple[int, int, int, int]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class MaskFile:
    """A file that marks a part of a photograph: its '/'-separated path in the source, its hash, where its bytes lie,
    and what it was made from."""

    path: str
    sha256: str
    extent: Extent
    kind: MaskKind = "file"

    @property
    def content_key(self) -> str:
        """What a fingerprint knows of it."""
        return self.sha256 if self.kind == "file" else f"{self.kind} {self.sha256}"


@dataclass(frozen=True)
class Sample:
    """One photograph.

    `split` "train" holds normals alone; "labelled" holds good and defective photographs that only supervised methods
    learn from as well. `path` is its '/'-separated path in the source, unique in the set. `defect` is the defect type
    ("good" for normals; nested folders keep their slashes). `width` and `height` are pixels as read from the header,
    both 0 where the header could not be read. What any of the `masks` marks is defect. Photographs of one `group` show
    the same part or the same occasion, and never stand on both sides of a sample split; "" = a group of its own. What
    any of `ignore` marks is neither defect nor good. `boxes` are the defects that were drawn as boxes, one by one (the
    mask of kind "box" holds them united). `metadata` are columns of the source that nothing here reads, (name, value).
    `alignment` is how the photograph lies against the set's reference; None where there is none, or it cannot be
    decoded.
    """

    path: str
    sha256: str
    split: Split
    label: Label
    defect: str
    width: int
    height: int
    image: Extent
    masks: tuple[MaskFile, ...] = ()
    group: str = ""
    ignore: tuple[MaskFile, ...] = ()
    boxes: tuple[PixelBox, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    alignment: Alignment | None = None

    @property
    def group_key(self) -> str:
        """What tells groups from each other: photographs with the same bytes are always one."""
        return self.group or self.sha256


_FIELDS = tuple(field.name for field in fields(Sample))


@dataclass(frozen=True)
class Manifest:
    """What `ingest` makes: the samples in a fixed order (by path), how they were split, and the fingerprint of the
    whole.

    `calibration_fraction` is the share of normals held out for thresholds; 0 means thresholds come from k-fold refits.
    `labelled_fraction` is the share of the source's test photographs that supervised methods learn from; 0 means none.
    `saturation` are the rules of sPRO, where the source has any.
    `notes` are sentences for the report: what ingest decided or left out. `decoding` is how the files become pixels,
    `mask_meaning` how the values of masks become defect. `copies_cross`: photographs are so alike that copies of one
    part cannot be distinguished from like parts, and may lie on both sides of a split, so that no threshold from them
    promises anything. `profiles` is how many photographs bear a colour profile that makes their pixels others.
    `reference` is what photographs are aligned to.
    """

    name: str
    samples: tuple[Sample, ...]
    seed: int
    calibration_fraction: float
    notes: tuple[str, ...] = ()
    labelled_fraction: float = 0.0
    decoding: Decoding = DEFAULT
    mask_meaning: MaskMeaning = BLACK_BACKGROUND
    copies_cross: bool = False
    saturation: tuple[Saturation, ...] = ()
    profiles: int = 0
    reference: Reference | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the samples' content and roles, decoding, the meaning of masks and their saturation, not over
        where they came from, nor over metadata: same content, same fingerprint."""
        rows: list[list[Any]] = sorted(
            [
                *(s.path, s.sha256, s.split, s.label, s.defect, s.group, [mask.content_key for mask in s.masks]),
                *([[mask.content_key for mask in s.ignore]] if s.ignore else []),
                *([{"boxes": s.boxes}] if s.boxes else []),
            ]
            for s in self.samples
        )
        # Where no photograph bears such a profile, pixels are the same whether profiles are read or not.
        decoding = replace(self.decoding, profiles=self.decoding.profiles and self.profiles > 0)
        parts: list[Any] = [_FINGERPRINT, decoding.to_dict(), asdict(self.mask_meaning), rows]
        if self.saturation:
            parts.append([asdict(rule) for rule in self.saturation])
        if self.reference:
            # What follows from them is not a part: the last digits are those of a machine.
            parts.append({"align": [self.reference.path, self.reference.shift, self.reference.angle]})
        return hashlib.sha256(canonical_json(parts)).hexdigest()

    def to_json(self) -> str:
        value = {
            "format": FORMAT,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "seed": self.seed,
            "calibration_fraction": self.calibration_fraction,
            "labelled_fraction": self.labelled_fraction,
            "decoding": self.decoding.to_dict(),
            "mask_meaning": asdict(self.mask_meaning),
            "copies_cross": self.copies_cross,
            **({"profiles": self.profiles} if self.profiles else {}),
            **({"saturation": [asdict(rule) for rule in self.saturation]} if self.saturation else {}),
            **({"reference": asdict(self.reference)} if self.reference else {}),
            "notes": list(self.notes),
        }
        rows = ",\n".join(json.dumps(_row(sample), ensure_ascii=False) for sample in self.samples)
        head = json.dumps(value, indent=1, ensure_ascii=False)
        return f'{head[:-2]},\n "samples": [\n{rows}\n]}}\n'


def read_manifest(folder: Path) -> Manifest:
    """Read and verify the manifest of a Dataset folder.

    Raises BadInput where it is missing, of another format, or does not match its own fingerprint.
    """
    path = Path(folder) / MANIFEST
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.get("format") not in (FORMAT, *_OLDER):
            raise BadInput(
                f"{path} has format {value.get('format')!r}, this version reads {FORMAT!r}; run ingest again."
            )
        fingerprint = str(value["fingerprint"])
        samples = tuple(_sample(row) for row in value["samples"])
        labelled = float(value.get("labelled_fraction", 0.0))
        decoding = Decoding(**value["decoding"])
        manifest = Manifest(
            value["name"],
            samples,
            value["seed"],
            value["calibration_fraction"],
            tuple(value["notes"]),
            labelled,
            decoding,
            MaskMeaning.from_dict(value["mask_meaning"]),
            bool(value["copies_cross"]),
            tuple(map(Saturation.from_dict, value.get("saturation", []))),
            int(value.get("profiles", 0)),
            Reference(**value["reference"]) if "reference" in value else None,
        )
        matches = manifest.fingerprint == fingerprint
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInput(f"{folder} is not a Dataset: {MANIFEST} is missing; make one with the ingest step.") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise BadInput(
            f"{path} is not a readable manifest ({type(error).__name__}: {error}); run ingest again."
        ) from error
    if not matches:
        raise BadInput(f"{path} does not match its fingerprint: it was edited or damaged; run ingest again.")
    return manifest


def _row(sample: Sample) -> dict[str, Any]:
    """A sample as JSON values, without what most sets have none of: ignored regions, boxes, metadata, an alignment, and
    masks that ingest drew."""
    # One by one: dataclasses.asdict copies whatever it meets, and takes ten times as long.
    row = {field: getattr(sample, field) for field in _FIELDS}
    row["image"] = vars(sample.image)
    row["masks"], row["ignore"] = ([_mask_row(mask) for mask in masks] for masks in (sample.masks, sample.ignore))
    row["alignment"] = sample.alignment and asdict(sample.alignment)
    for name in ("ignore", "boxes", "metadata", "alignment"):
        if not row[name]:
            del row[name]
    return row


def _mask_row(mask: MaskFile) -> dict[str, Any]:
    row = {**vars(mask), "extent": vars(mask.extent)}
    if mask.kind == "file":
        del row["kind"]
    return row


def _sample(row: dict[str, Any]) -> Sample:
    masks, ignore = (tuple(map(_mask_file, row.get(name, []))) for name in ("masks", "ignore"))
    boxes = tuple(_box(box) for box in row.get("boxes", []))
    metadata = tuple((str(name), str(text)) for name, text in row.get("metadata", []))
    alignment = Alignment.from_dict(row["alignment"]) if "alignment" in row else None
    parts = {
        "image": _extent(row["image"]),
        "masks": masks,
        "ignore": ignore,
        "boxes": boxes,
        "metadata": metadata,
        "alignment": alignment,
    }
    sample = Sample(**{**row, **parts})
    if sample.split not in get_args(Split) or sample.label not in get_args(Label):
        raise ValueError(f"{sample.path!r} has split {sample.split!r} and label {sample.label!r}")
    return sample


def _mask_file(row: dict[str, Any]) -> MaskFile:
    kind = row.get("kind", "file")
    if kind not in get_args(MaskKind):
        raise ValueError(f"the mask {row['path']!r} is of the kind {kind!r}")
    return MaskFile(str(row["path"]), str(row["sha256"]), _extent(row["extent"]), kind)


def _box(box: list[Any]) -> PixelBox:
    left, top, right, bottom = (int(edge) for edge in box)
    return left, top, right, bottom


def _extent(row: dict[str, Any]) -> Extent:
    return Extent(str(row["shard"]), int(row["offset"]), int(row["length"]))
