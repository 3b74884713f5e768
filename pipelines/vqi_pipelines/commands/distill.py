"""`vqi distill`: a teacher for efficient_ad."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def distill(
    source: Annotated[
        str,
        typer.Argument(
            help="Pictures of anything, the more varied the better: folder, tar or zip file, or s3://bucket/prefix."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="The weights file to write; a .json beside it says how it came about.")
    ] = Path("teacher.safetensors"),
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="path=value: backbone.*, image.size, train.*, compute.*, seed, method.settings.model_size and the "
            "like.",
        ),
    ] = None,
) -> None:
    """Distil a backbone into a teacher for efficient_ad, to be given as method.settings.teacher. Budgets and
    checkpoints are those of a training."""
    from vqi.platform.files import check_writable
    from vqi.platform.printing import printable
    from vqi.tools.distill import distill as run
    from vqi_pipelines.catalog import load_category

    category = load_category("distill", [*(set_ or []), f"data.source={source}", "method.name=efficient_ad"])
    check_writable(out)
    record = run(
        source=category.data.source,
        settings=category.method_settings,
        backbone=category.backbone,
        geometry=category.geometry,
        compute=category.device_compute,
        seed=category.seed,
        teacher=out,
        budgets=category.training,
    )
    training = record.training
    typer.echo(
        f"{training.steps} steps of {training.batch_size} images in {training.seconds:.0f} s, of {record.images} "
        f"pictures; loss {training.points[0].losses['loss']:.3f} at first, {training.points[-1].losses['loss']:.3f} at "
        "last."
    )
    typer.echo(
        f"Teacher: {printable(str(out))}\nUse it: --set method.settings.teacher={printable(str(out))}\nsha256: "
        f"{record.sha256}"
    )
