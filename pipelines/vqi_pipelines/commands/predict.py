"""`vqi predict`: a bundle over photographs, without torch."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqi.platform.errors import BadInput
from vqi.platform.logs import logger
from vqi_pipelines.commands.predictor_options import Backend, BatchSize, Bundle, Device, Threads, Tracking

if TYPE_CHECKING:
    from vqi.deployment.photographs import Photographs
    from vqi.deployment.prediction_record import DecisionCounts
    from vqi.deployment.predictor import ImageSource, Unreadable

log = logger(__name__)

STANDARD_INPUT = "-"


def predict(
    bundle: Bundle,
    images: Annotated[
        list[str],
        typer.Argument(
            help="Photographs: files, folders (searched through), patterns such as 'line1/*.png', s3://BUCKET/PREFIX, "
            "http(s)://HOST/PATH; -: lines of standard input, each one of these."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for results, pictures, maps and masks; replaces earlier ones.")
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
        bool, typer.Option("--maps", help="Write every anomaly map at the photograph's size (see --map-format).")
    ] = False,
    map_format: Annotated[
        str, typer.Option(help="Form of the maps: tiff (float32), or png (16 bit, with the range of its values).")
    ] = "tiff",
    masks: Annotated[
        bool, typer.Option("--masks", help="Write what is marked at the photograph's size: PNG, 0 and 255.")
    ] = False,
    only: Annotated[
        str,
        typer.Option(
            help="Of which images lines, rows and files are written: all, or defects (all that are not good); every "
            "image is counted."
        ),
    ] = "all",
    results: Annotated[
        str, typer.Option(help="Files of results, with commas between: json, jsonl (a line an image), csv, parquet.")
    ] = "json,csv",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Host that photographs may be fetched from by address (repeat it); without: none."),
    ] = None,
    tracking: Tracking = "",
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")
    ] = False,
    json_lines: Annotated[
        bool, typer.Option("--json-lines", help="Print a JSON object an image, as it is decided, and nothing else.")
    ] = False,
) -> None:
    """Predict defects on photographs with an exported bundle.

    Exit code 2 where an image could not be read, or cannot be a photograph of the set (black, blurred, of another
    size): it is named in the results with the reason, and the others are predicted all the same.
    """
    import json

    from vqi.deployment.photographs import Photographs
    from vqi.deployment.prediction_tables import json_line, parse_results
    from vqi.deployment.prediction_writer import PredictionWriter, check_destination
    from vqi.deployment.predictor import Predictor
    from vqi.platform.files import whole_folder
    from vqi.platform.printing import printable
    from vqi.platform.progress import Progress
    from vqi.registry.source import bundle_folder

    if json_output and json_lines:
        raise BadInput("--json and --json-lines exclude each other; leave one out.")
    out = Path(os.path.abspath(out))
    check_destination(out)
    formats = parse_results(results)
    hosts = tuple(allow_host or ())
    with (
        Photographs([name for name in images if name != STANDARD_INPUT], hosts=hosts, left_out=out, keep=True) as named,
        bundle_folder(bundle, tracking) as held,
    ):
        listed = distinct(named)
        streamed = STANDARD_INPUT in images
        if not streamed:
            check_any(listed)
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
        log.debug(f"{bundle} runs by {predictor.graph.backend}; photographs: {len(listed)}")
        # Another page was chosen on purpose; that the first alone is read, nobody may have noticed.
        first_page = predictor.sidecar.decoding.page == 1
        progress = Progress("predicted", None if streamed else len(listed))
        stream: Iterable[ImageSource | Unreadable] = listed
        further = Photographs(_lines(), hosts=hosts, left_out=out, keep=True) if streamed else None
        if further:
            stream = chain(listed, further)
        if first_page:
            stream = _with_later_pages(stream)
        with whole_folder(out) as folder:
            writer = PredictionWriter(
                folder,
                predictor.sidecar,
                predictor.graph.backend,
                pictures,
                maps,
                masks,
                map_format=map_format,  # type: ignore[arg-type]  # checked by the writer
                results=formats,
                only=only,  # type: ignore[arg-type]  # checked by the writer
                keep_records=json_output,
            )
            for result in predictor.predict(stream):
                content = named.content(result.name) or (further.content(result.name) if further else None)
                rows = [(result, content)]
                if first_page and content and (later := _later_pages_of(content, result.name)):
                    rows.append((later, None))
                for row, pixels in rows:
                    record = writer.add(row, pixels)
                    if record is None:
                        continue
                    if json_lines:
                        typer.echo(json_line(record))
                        sys.stdout.flush()
                    elif record.error is None and not json_output:
                        typer.echo(f"{record.decision:11}  {record.score:10.4f}  {printable(record.image)}")
                    for sentence in (record.error, record.implausible, record.unaligned):
                        if sentence:
                            log.warning(f"vqi predict: {sentence}")
                progress.advance()
            summary = writer.finish()
            counts = summary.counts
            if not counts.images:
                raise BadInput("There is nothing to predict: standard input held no line.")
    lines = (
        _counted(counts),
        f"Defect: a score above {predictor.sidecar.thresholds.image:.4f}. {predictor.sidecar.calibration.guarantee}",
        predictor.sidecar.plausibility.sentence,
        f"Results: {printable(str(out))}",
    )
    if json_output:
        typer.echo(json.dumps(summary.values(), indent=2, allow_nan=False))
    elif json_lines:
        log.info(lines[0])
    else:
        typer.echo("\n".join(lines))
    if counts.unreadable or counts.implausible:
        raise typer.Exit(BadInput.exit_code)


def distinct(photographs: Photographs) -> list[ImageSource | Unreadable]:
    """What is named, each once, in order; what is passed over or names nothing comes first, as it needs no work."""
    from vqi.deployment.photographs import name_of
    from vqi.deployment.predictor import Unreadable

    missing: dict[str, Unreadable] = {}
    readable: dict[str, ImageSource] = {}
    for item in photographs:
        if isinstance(item, Unreadable):
            missing.setdefault(item.name, item)
        else:
            readable.setdefault(name_of(item), item)
    return [*missing.values(), *readable.values()]


def check_any(items: list[ImageSource | Unreadable]) -> None:
    """Raise BadInput where nothing can be predicted."""
    from vqi.deployment.predictor import Unreadable

    missing = [item for item in items if isinstance(item, Unreadable)]
    if len(missing) == len(items):
        more = f" ({len(missing)} such in all)" if len(missing) > 1 else ""
        raise BadInput(f"There is nothing to predict: {missing[0].reason}{more}" if missing else "Name photographs.")


def _counted(counts: DecisionCounts) -> str:
    numbers = ", ".join(f"{getattr(counts, kind)} {kind}" for kind in ("good", "defect", "implausible", "unreadable"))
    return f"{counts.images} images: {numbers}."


def _lines() -> Iterator[str]:
    """What standard input names, a line each."""
    for line in sys.stdin:
        if name := line.rstrip("\r\n"):
            yield name


def _with_later_pages(items: Iterable[ImageSource | Unreadable]) -> Iterator[ImageSource | Unreadable]:
    """The same, and before each file that holds more than one picture, the pages that are not inspected."""
    from vqi.deployment.photograph_files import later_pages_of_file
    from vqi.deployment.predictor import Unreadable

    for item in items:
        if isinstance(item, Path) and (later := later_pages_of_file(item)):
            yield Unreadable(*later)
        yield item


def _later_pages_of(content: bytes, name: str) -> Unreadable | None:
    """The pages that are not inspected of a photograph that was fetched."""
    from vqi.deployment.photograph_files import later_pages
    from vqi.deployment.predictor import Unreadable

    later = later_pages(io.BytesIO(content), name)
    return Unreadable(*later) if later else None
