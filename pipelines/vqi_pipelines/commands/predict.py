"""`vqi predict`: a bundle over photographs, without torch."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from vqi.platform.errors import BadInput
from vqi.platform.logs import logger
from vqi_pipelines.commands.predictor_options import Backend, BatchSize, Bundle, Device, Threads, Tracking

if TYPE_CHECKING:
    from vqi.deployment.predictor import Unreadable

log = logger(__name__)


def predict(
    bundle: Bundle,
    images: Annotated[
        list[str],
        typer.Argument(help="Photographs: files, folders (searched through), or patterns such as 'line1/*.png'."),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for predictions.json, predictions.csv and pictures; replaces earlier ones.")
    ] = Path("predictions"),
    backend: Backend = "auto",
    device: Device = "cpu",
    threads: Threads = 0,
    batch: BatchSize = 0,
    false_reject_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of good parts that may be rejected, in place of the one the bundle was exported with."
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Image threshold, set by hand; what it promises is printed.")
    ] = None,
    implausible: Annotated[
        str,
        typer.Option(
            help="A photograph that cannot be one of the set: refuse (decision implausible, exit code 2) or score."
        ),
    ] = "refuse",
    pictures: Annotated[bool, typer.Option(help="Write a picture for every image.")] = True,
    maps: Annotated[
        bool, typer.Option("--maps", help="Write every anomaly map at the photograph's size: float32 TIFF.")
    ] = False,
    masks: Annotated[
        bool, typer.Option("--masks", help="Write what is marked at the photograph's size: PNG, 0 and 255.")
    ] = False,
    tracking: Tracking = "",
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")
    ] = False,
) -> None:
    """Predict defects on photographs with an exported bundle.

    Exit code 2 where an image could not be read, or cannot be a photograph of the set (black, blurred, of another
    size): it is named in the results with the reason, and the others are predicted all the same.
    """
    import json

    from vqi.deployment.prediction_record import PREDICTIONS
    from vqi.deployment.prediction_writer import PredictionWriter, check_destination
    from vqi.deployment.predictor import Predictor
    from vqi.platform.files import whole_folder
    from vqi.platform.printing import printable
    from vqi.platform.progress import Progress
    from vqi.registry.source import bundle_folder

    out = Path(os.path.abspath(out))
    check_destination(out)
    files, missing = matched(images, out)
    with bundle_folder(bundle, tracking) as held:
        predictor = Predictor(
            held,
            backend,
            device,
            threads,
            batch,
            false_reject_rate=false_reject_rate,
            threshold=threshold,
            implausible=implausible,  # type: ignore[arg-type]  # checked by the predictor
        )
    # Another page was chosen on purpose; that the first alone is read, nobody may have noticed.
    if predictor.sidecar.decoding.page == 1:
        missing += _later_pages(files)
    log.debug(f"{bundle} runs by {predictor.graph.backend}; files: {len(files)}")
    progress = Progress("predicted", len(files))
    with whole_folder(out) as folder:
        writer = PredictionWriter(folder, predictor.sidecar, predictor.graph.backend, pictures, maps, masks)
        for unreadable in missing:
            writer.add(unreadable)
        for result in predictor.predict(files):
            record = writer.add(result)
            if json_output:
                progress.advance()
            elif record.error is None:
                typer.echo(f"{record.decision:11}  {record.score:10.4f}  {printable(record.image)}")
        summary = writer.finish()
    counts = summary.counts
    if json_output:
        typer.echo(json.dumps(summary.values(), indent=2, allow_nan=False))
    else:
        threshold_used = predictor.sidecar.thresholds.image
        numbers = ", ".join(
            f"{getattr(counts, kind)} {kind}" for kind in ("good", "defect", "implausible", "unreadable")
        )
        typer.echo(f"{counts.images} images: {numbers}.")
        typer.echo(f"Defect: a score above {threshold_used:.4f}. {predictor.sidecar.calibration.guarantee}")
        typer.echo(predictor.sidecar.plausibility.sentence)
        typer.echo(f"Predictions: {printable(str(out / PREDICTIONS))}")
    for record in writer.records:
        for sentence in (record.error, record.implausible, record.unaligned):
            if sentence:
                log.warning(f"vqi predict: {sentence}")
    if counts.unreadable or counts.implausible:
        raise typer.Exit(BadInput.exit_code)


def matched(patterns: list[str], out: Path) -> tuple[list[Path], list[Unreadable]]:
    """The files that paths, folders and patterns name, each once, in order; and what is not inspected: what named
    nothing, and what was passed over in folders though it may be a photograph. `out` is never searched.

    Raises BadInput where nothing at all was found.
    """
    from vqi.deployment.predictor import Unreadable

    files: dict[Path, None] = {}
    missing: dict[str, str] = {}
    for pattern in patterns:
        named = list(_expand_pattern(pattern, out))
        passed_over = {
            str(path): reason for path in named if str(path) != pattern and (reason := _explain_omission(path))
        }
        photographs = [path for path in named if str(path) not in passed_over]
        files.update(dict.fromkeys(photographs))
        missing.update(passed_over)
        if not named:
            missing[pattern] = f"{pattern} {'holds no images' if os.path.isdir(pattern) else 'names no file'}."
    if not files:
        more = f" ({len(missing)} such in all)" if len(missing) > 1 else ""
        raise BadInput(f"There is nothing to predict: {next(iter(missing.values()))}{more}")
    return list(files), [Unreadable(name, reason) for name, reason in missing.items()]


def _explain_omission(path: Path) -> str:
    """Why a file of a folder is not inspected though it may be a photograph, as a sentence; "" where it is."""
    from vqi.dataset.archives import SUFFIXES as ARCHIVES
    from vqi.dataset.images import OTHER_PICTURES, SUFFIXES

    name = path.name.rstrip().lower()
    if name.endswith(OTHER_PICTURES):
        return f"{path} was passed over: {path.suffix} is not read; save it as PNG, TIFF or JPEG."
    if name.endswith(ARCHIVES):
        return f"{path} was passed over: photographs in archives are not inspected; unpack it."
    if not name.endswith(SUFFIXES):
        return (
            f"{path} was passed over: it is a picture, but its name does not end like one's ({', '.join(SUFFIXES)}); "
            "rename it."
        )
    return ""


def _later_pages(files: Iterable[Path]) -> list[Unreadable]:
    """For each file that holds more than one picture, the pages that are not inspected."""
    from vqi.dataset.images import count_pages
    from vqi.deployment.predictor import Unreadable

    later: list[Unreadable] = []
    for path in filter(Path.is_file, files):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            pages = count_pages(file)
            if pages > 1:
                which = "page 2" if pages == 2 else f"pages 2 to {pages}"
                sentence = f"{path} holds {pages} pages, only the first was inspected; save each as a file of its own."
                later.append(Unreadable(f"{path}, {which}", sentence))
    return later


def _expand_pattern(pattern: str, out: Path) -> Iterator[Path]:
    if not os.path.lexists(pattern) and glob.has_magic(pattern):
        for name in sorted(glob.glob(pattern, recursive=True)):
            yield from _expand_pattern(name, out)
    elif os.path.isdir(pattern):
        yield from _pictures_under(pattern, out)
    elif os.path.lexists(pattern):
        yield Path(pattern)


def _pictures_under(folder: str, out: Path) -> Iterator[Path]:
    """What may be photographs below a folder, also of kinds that are not read. Links to folders are followed, but for
    those to a folder above."""
    from vqi.dataset.archives import SUFFIXES as ARCHIVES
    from vqi.dataset.images import OTHER_PICTURES, SUFFIXES

    suffixes = (*SUFFIXES, *OTHER_PICTURES, *ARCHIVES)
    for parent, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not _is_left(Path(parent, name), out)
        )
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and (name.rstrip().lower().endswith(suffixes) or _begins_like_a_picture(path)):
                yield path


def _begins_like_a_picture(path: Path) -> bool:
    from vqi.dataset.images import is_picture

    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        with open(path, "rb") as file:
            return is_picture(file.read(16))
    except OSError:
        return False


def _is_left(folder: Path, out: Path) -> bool:
    above = folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())
    return above or Path(os.path.abspath(folder)) == out


def _raise(error: OSError) -> NoReturn:
    raise BadInput(f"The folder {error.filename} cannot be read ({error.strerror}).") from error
