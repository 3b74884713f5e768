"""What a layout cannot hold of a set, in sentences, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from vqi.dataset.layouts.annotations import innermost_folder
from vqi.dataset.layouts.interface import Box, Photograph, Reading
from vqi.dataset.layouts.listing import counted, examples

Target = Literal["mvtec", "coco", "lists", "table"]
TARGETS: tuple[str, ...] = get_args(Target)


@dataclass(frozen=True)
class Loss:
    """What is lost, and whether figures change by it."""

    sentence: str
    measured: bool = False


def losses(reading: Reading, target: Target, split_newly: bool = False) -> list[Loss]:
    """What `target` cannot hold of a source. `split_newly`: every photograph gets a split before."""
    return list(_losses(reading.photographs, reading, target, split_newly))


def _losses(photographs: Sequence[Photograph], reading: Reading, target: Target, split_newly: bool) -> Iterator[Loss]:
    undecided = [p.path for p in photographs if p.split is None]
    if undecided and not split_newly and target in ("mvtec", "lists"):
        yield Loss(
            f"{_those(undecided)} no split in the source, and {target} cannot leave it open: a fifth of them is put "
            "into test, as a run does with seed 0."
        )
    boxed = [p.path for p in photographs if any(isinstance(mask, Box) for mask in p.masks)]
    if boxed and target in ("mvtec", "lists"):
        yield Loss(f"{_those(boxed)} defects drawn as boxes, which {target} has as outlines.", True)
    ignored = [p.path for p in photographs if p.ignore]
    if ignored and target in ("mvtec", "lists"):
        yield Loss(f"{_those(ignored)} regions to ignore, which {target} cannot hold.", True)
    bare = [p.path for p in photographs if p.label == "defect" and not p.masks]
    if bare and target in ("coco", "lists"):
        yield Loss(f"{_those(bare)} a defect without a mask, which {target} takes for good: left out.", True)
    unknown = [p.path for p in photographs if p.label == "unknown"]
    if unknown and target == "coco":
        yield Loss(f"{_those(unknown)} no label, which coco takes for good: left out.", True)
    if target in ("mvtec", "lists"):
        grouped = [p.path for p in photographs if p.group]
        if grouped:
            yield Loss(f"{_those(grouped)} a part's name (group), which {target} cannot hold; see data.group.")
        noted = [p.path for p in photographs if p.metadata]
        if noted:
            yield Loss(f"{_those(noted)} metadata, which {target} cannot hold.")
    renamed = sorted({p.defect for p in photographs if folder_of(p.defect, target) != p.defect})
    if renamed and target in ("mvtec", "lists"):
        yield Loss(
            f"Types of defects are renamed, since folders of {target} cannot have their names: {examples(renamed)}."
        )
    if reading.saturation and target != "mvtec":
        yield Loss(
            f"The source has saturation thresholds of sPRO, which {target} cannot hold: it is not measured then.", True
        )


def folder_of(defect: str, target: Target) -> str:
    """The folder that stands for a type of defect: its own name where a reader finds it again."""
    parts = [part for part in defect.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    name = "/".join(parts) if target == "mvtec" else "-".join(parts)
    plain = "".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in name)[:100].strip()
    first = innermost_folder(f"{plain.split('/')[0]}/x")
    return plain if plain and first else f"defect-{plain or 'type'}"


def _those(paths: Sequence[str]) -> str:
    return f"{counted(len(paths), 'photograph')} ({examples(paths, 1)}) {'has' if len(paths) == 1 else 'have'}"
