"""Writes a set in another layout, and reads it again before it is kept: what does not come back as it was ends it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vqi.dataset.layouts.detection import read_layout
from vqi.dataset.layouts.interface import Options, Photograph, SourceFiles
from vqi.dataset.layouts.mvtec_loco import MVTecLOCO
from vqi.dataset.reader import Dataset
from vqi.dataset.sources import files_of
from vqi.platform.errors import BadInput
from vqi.platform.files import whole_folder
from vqi.tools.conversion.losses import Loss, Target, folder_of
from vqi.tools.conversion.rows import Row
from vqi.tools.conversion.writers import WRITERS, Written


def check_out(out: Path, source: str) -> None:
    """Raise BadInput where `out` holds anything already, or lies in the source."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out} exists already; name a new folder.")
    if "://" not in source and Path(source).is_dir() and out.resolve().is_relative_to(Path(source).resolve()):
        raise BadInput(f"{out} lies in the source {source}, which stays as it is; name a folder outside of it.")


def check_losses(all_losses: Sequence[Loss], lossy: bool) -> None:
    """Raise BadInput where figures would change and that was not asked for."""
    changing = [loss.sentence for loss in all_losses if loss.measured]
    if changing and not lossy:
        raise BadInput(f"{' '.join(changing)} Figures change by that: name another --to, or add --lossy.")


def convert(dataset: Dataset, rows: Sequence[Row], target: Target, out: Path) -> Written:
    """Write the photographs of `rows` to the folder `out`, whole or not at all, and say where each of them went. Raises
    BadInput where what was written is read as something else, and for masks that do not fit."""
    with whole_folder(out) as folder:
        written = WRITERS[target](dataset, rows, folder)
        files, _ = files_of(folder)
        layout = MVTecLOCO.name if target == "mvtec" and dataset.manifest.saturation else target
        reading = read_layout(SourceFiles(files, out.name), layout, Options())
        if target == "mvtec" and reading.saturation != dataset.manifest.saturation:
            raise BadInput(f"Layout {layout} cannot hold the saturation thresholds of the set; name another --to.")
        _compare(
            rows, written, {reading.top + photograph.path: photograph for photograph in reading.photographs}, target
        )
    return written


def _compare(rows: Sequence[Row], written: Written, read: dict[str, Photograph], target: Target) -> None:
    kept = [row for row in rows if row.sample.path in written]
    for row in kept:
        photograph = read.get(written[row.sample.path])
        wanted = _role(row, target)
        role = photograph and (photograph.split, photograph.label, photograph.defect)
        if role != wanted:
            raise BadInput(
                f"Layout {target} cannot hold {row.sample.path}: it would be read as {role or 'no photograph'} in "
                f"place of {wanted}; name another --to."
            )
    if len(read) != len(kept):
        raise BadInput(
            f"Layout {target} cannot hold the set: its {len(kept)} photographs would be read as {len(read)}."
        )


def _role(row: Row, target: Target) -> tuple[str | None, str, str]:
    split = row.dealt if target in ("mvtec", "lists") else row.split
    defect = folder_of(row.sample.defect, target) if target in ("mvtec", "lists") else row.sample.defect
    return split, row.sample.label, defect
