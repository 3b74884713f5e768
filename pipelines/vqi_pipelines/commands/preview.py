"""`vqi preview`: a contact sheet of what a method learns from."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vqi.category import Category


def preview(
    method: Annotated[str, typer.Argument(help="A method (vqi methods lists them).")],
    category: Annotated[
        str,
        typer.Option(help="A category of the catalog, a category file, or a new name (with --set data.source=...)."),
    ],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="path=value that overrides the category; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The PNG file; by default preview-METHOD.png.")] = None,
) -> None:
    """Show what a method learns from: its views of eight photographs of a category, as a PNG. Nothing is trained and no
    weights are needed."""
    from vqi.platform.printing import printable
    from vqi.steps.ingest.settings import StepSettings
    from vqi.steps.ingest.step import ingest
    from vqi.tools.preview import preview as write_preview

    chosen = of_method(category, method, set_ or [])
    out = out or Path(f"preview-{method}.png")
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "dataset"
        ingest(StepSettings.of(chosen), dataset=dataset)
        written = write_preview(
            dataset=dataset,
            method=method,
            settings=chosen.method_settings,
            backbone=chosen.backbone,
            geometry=chosen.geometry,
            seed=chosen.seed,
            out=out,
        )
    typer.echo(f"{written.sentence}\nPreview: {printable(str(out))}")


def of_method(category: str, method: str, overrides: list[str]) -> Category:
    """The category with `method` in its own one's place; settings of another method that the category holds do not
    count.

    Raises BadInput where the category has no source, or for what `load_category` raises it.
    """
    from vqi.platform.errors import BadInput
    from vqi_pipelines.catalog import load_category

    elsewhere = [override for override in overrides if not override.strip().startswith("method.")]
    own = load_category(category, elsewhere).method.name == method
    chosen = load_category(category, [*([] if own else ["method.settings={}"]), *overrides, f"method.name={method}"])
    if not chosen.data.source:
        raise BadInput(
            "data.source is empty; name a folder, an archive or s3://bucket/prefix, for example with --set "
            "data.source=FOLDER."
        )
    return chosen
