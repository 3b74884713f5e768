"""`vqi check`: is a set of photographs fit to learn from?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer


def check(
    source: Annotated[str, typer.Argument(help="Folder, tar or zip file, or s3://bucket/prefix.")],
    out: Annotated[Path, typer.Option(help="Folder for check.html, verdict.json, findings.csv.")] = Path(
        "dataset-check"
    ),
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="path=value of a category, such as data.layout=folders or image.size=[256,256]."),
    ] = None,
) -> None:
    """Check a set of photographs without training: what is in it, what is wrong with it. Exit code 2 where it does not
    pass."""
    from PIL.Image import Image

    from vqi.platform.printing import printable
    from vqi.steps.check_dataset import settings as check_settings
    from vqi.steps.check_dataset.step import check_dataset
    from vqi.steps.ingest import settings as ingest_settings
    from vqi.steps.ingest.step import ingest
    from vqi_pipelines.catalog import load_category

    # What an earlier check found must not stand beside a set that cannot even be brought in.
    for written in (out / "check.html", out / "verdict.json", out / "findings.csv"):
        written.unlink(missing_ok=True)
    category = load_category("check", [f"data.source={source}", *(set_ or [])])
    described: dict[str, Image] = {}
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "dataset"
        manifest = ingest(
            ingest_settings.StepSettings.of(category),
            dataset=dataset,
            report=lambda note: typer.echo(printable(f"note: {note}")),
            described=described,
        )
        try:
            check_dataset(
                check_settings.StepSettings.of(category),
                dataset=dataset,
                page=out / "check.html",
                verdict=out / "verdict.json",
                paths=out / "findings.csv",
                report=lambda line: typer.echo(printable(line)),
                described=described,
            )
        finally:
            if (out / "verdict.json").is_file():
                typer.echo(
                    f"Page: {printable(str(out / 'check.html'))}\nVerdict: {printable(str(out / 'verdict.json'))}\n"
                    f"Paths: {printable(str(out / 'findings.csv'))}"
                )
    typer.echo(f"The set passes: {len(manifest.samples)} images, fingerprint {manifest.fingerprint[:16]}.")
