"""`vqi convert` and `vqi split`: a set in another layout, and with other splits."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from vqi.dataset.layouts.interface import LayoutSplit

_SOURCE = typer.Argument(help="Folder, tar or zip file, or s3://bucket/prefix; it stays as it is.")
_OUT = typer.Argument(help="The folder to write, which must not hold anything yet.")
_TO = typer.Option(help="The layout to write: mvtec, coco, lists or table.")
_LOSSY = typer.Option("--lossy", help="Write it although the layout cannot hold what figures depend on.")
_SET = typer.Option("--set", help="path=value of a category, such as data.layout=coco; may be repeated.")


def convert(
    source: Annotated[str, _SOURCE],
    out: Annotated[Path, _OUT],
    to: Annotated[str, _TO],
    lossy: Annotated[bool, _LOSSY] = False,
    set_: Annotated[list[str] | None, _SET] = None,
) -> None:
    """Write a set of photographs in another layout, masks drawn as files where need be. What the layout cannot hold is
    said before anything is written."""
    _write(source, out, to, lossy, set_ or [])


def split(
    source: Annotated[str, _SOURCE],
    out: Annotated[Path, _OUT],
    train: Annotated[float, typer.Option(help="Percentage of the good photographs that is trained on.")],
    val: Annotated[float, typer.Option(help="Percentage for validation.")] = 0.0,
    test: Annotated[float, typer.Option(help="Percentage to test on.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the choice: the same content and seed give the same splits.")] = 0,
    to: Annotated[str, _TO] = "table",
    lossy: Annotated[bool, _LOSSY] = False,
    set_: Annotated[list[str] | None, _SET] = None,
) -> None:
    """Write a set of photographs with new splits: the same share of every type of defect, groups (data.group, copies)
    whole, defects never in train."""
    from vqi.tools.conversion.split import check_shares

    shares: dict[LayoutSplit, float] = {"train": train, "validation": val, "test": test}
    check_shares(shares)
    # With a share of test photographs to learn from, ingest looks for copies among them as well.
    _write(source, out, to, lossy, [*(set_ or []), "data.labelled_fraction=0.5"], shares, seed)


def _write(
    source: str,
    out: Path,
    to: str,
    lossy: bool,
    overrides: list[str],
    shares: Mapping[LayoutSplit, float] | None = None,
    seed: int = 0,
) -> None:
    from vqi.dataset.reader import Dataset
    from vqi.platform.errors import BadInput, closest
    from vqi.platform.printing import printable
    from vqi.steps.ingest.settings import StepSettings
    from vqi.steps.ingest.step import ingest
    from vqi.tools.conversion.convert import check_losses, check_out
    from vqi.tools.conversion.convert import convert as write_layout
    from vqi.tools.conversion.losses import TARGETS, Target, losses
    from vqi.tools.conversion.rows import read_source, rows_of
    from vqi.tools.conversion.split import contents, split_rows
    from vqi_pipelines.catalog import load_category

    if to not in TARGETS:
        raise BadInput(f"--to is {to!r}.{closest(to, list(TARGETS))}")
    target = cast(Target, to)
    check_out(out, source)
    category = load_category("convert", [f"data.source={source}", *overrides])
    reading = read_source(category.data)
    for note in reading.notes:
        typer.echo(printable(f"note: {note}"))
    lost = losses(reading, target, shares is not None)
    for loss in lost:
        typer.echo(printable(f"lost: {loss.sentence}"))
    check_losses(lost, lossy)
    with tempfile.TemporaryDirectory() as folder:
        ingest(StepSettings.of(category), dataset=Path(folder) / "dataset", checked=False)
        dataset = Dataset(Path(folder) / "dataset")
        rows = rows_of(dataset, reading, category.data.group)
        if shares is not None:
            rows = split_rows(rows, shares, seed)
        written = write_layout(dataset, rows, target, out)
    for line in contents(rows) if shares is not None else ():
        typer.echo(printable(line))
    typer.echo(printable(f"{len(written)} of {len(rows)} photographs written as {to}: {out}"))
