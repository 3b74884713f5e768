"""`vqi predict`: a bundle over photographs, without torch."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqi.platform.errors import BadInput

if TYPE_CHECKING:
    from vqi.deployment.predictor import Unreadable


def predict(
    bundle: Annotated[Path, typer.Argument(help="The bundle folder that a run exported.")],
    images: Annotated[list[str], typer.Argument(help="Photographs: files, folders (searched through), or patterns such as 'line1/*.png'.")],
    out: Annotated[Path, typer.Option(help="Folder for predictions.json, predictions.csv and pictures; replaces earlier ones.")] = Path(
        "predictions"
    ),
    backend: Annotated[str, typer.Option(help="auto, openvino or onnxruntime.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, or what the backend has: cuda (onnxruntime), gpu (openvino).")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads; 0: the backend's choice.")] = 0,
    batch: Annotated[int, typer.Option(help="Images a batch; 0: as many as fit the bundle's memory bound, at most 8.")] = 0,
    pictures: Annotated[bool, typer.Option(help="Write a picture for every image.")] = True,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")] = False,
) -> None:
    """Predict defects on photographs with an exported bundle.

    Exit code 2 where an image could not be read: it is named in the results, and the others are predicted all the same.
    """
    import json

    from vqi.deployment.prediction_writer import JSON, PredictionWriter, check_destination
    from vqi.deployment.predictor import Predictor
    from vqi.platform.files import whole_folder
    from vqi.platform.printing import printable
    from vqi.platform.progress import Progress

    out = Path(os.path.abspath(out))
    check_destination(out)
    files, missing = matched(images, out)
    predictor = Predictor(bundle, backend, device, threads, batch)
    progress = Progress("predicted", len(files))
    with whole_folder(out) as folder:
        writer = PredictionWriter(folder, predictor.sidecar, predictor.graph.backend, pictures)
        for unreadable in missing:
            writer.add(unreadable)
        for result in predictor.predict(files):
            record = writer.add(result)
            if json_output:
                progress.advance()
            elif "error" not in record:
                typer.echo(f"{record['decision']:6}  {record['score']:10.4f}  {printable(record['image'])}")
        summary = writer.finish()
    counts = summary["counts"]
    if json_output:
        typer.echo(json.dumps(summary, indent=2, allow_nan=False))
    else:
        threshold = predictor.sidecar.thresholds.image
        typer.echo(f"{counts['images']} images: {counts['good']} good, {counts['defect']} defect, {counts['unreadable']} unreadable.")
        typer.echo(f"Defect: a score above {threshold:.4f}. {predictor.sidecar.calibration.guarantee}")
        typer.echo(f"Predictions: {printable(str(out / JSON))}")
    for record in writer.records:
        if "error" in record:
            typer.echo(f"vqi predict: {printable(record['error'])}", err=True)
    if counts["unreadable"]:
        raise typer.Exit(BadInput.exit_code)


def matched(patterns: list[str], out: Path) -> tuple[list[Path], list[Unreadable]]:
    """The files that paths, folders and patterns name, each once, in order; and what named nothing. `out` is never searched.

    Raises BadInput where nothing at all was found.
    """
    from vqi.deployment.predictor import Unreadable

    files: dict[Path, None] = {}
    missing = []
    for pattern in patterns:
        found = list(_named(pattern, out))
        files.update(dict.fromkeys(found))
        if not found:
            missing.append(Unreadable(pattern, f"{pattern} {'holds no images' if os.path.isdir(pattern) else 'names no file'}."))
    if not files:
        raise BadInput(f"There is nothing to predict: {missing[0].reason}")
    return list(files), missing


def _named(pattern: str, out: Path) -> Iterator[Path]:
    if not os.path.lexists(pattern) and glob.has_magic(pattern):
        for name in sorted(glob.glob(pattern, recursive=True)):
            yield from _named(name, out)
    elif os.path.isdir(pattern):
        yield from _images_under(pattern, out)
    elif os.path.lexists(pattern):
        yield Path(pattern)


def _images_under(folder: str, out: Path) -> Iterator[Path]:
    from vqi.dataset.images import SUFFIXES

    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and Path(os.path.abspath(os.path.join(parent, name))) != out)
        yield from (Path(parent, name) for name in sorted(names) if name.lower().endswith(SUFFIXES) and not name.startswith("."))
