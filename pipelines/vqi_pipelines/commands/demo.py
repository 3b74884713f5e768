"""`vqi demo`: a set of parts made here, or photographs of one's own, through the whole DAG with PatchCore."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vqi.platform.logs import logger
from vqi_pipelines.commands.run import Isolated

log = logger(__name__)

NO_WEIGHTS = (
    "ImageNet weights could not be downloaded here, so the demo runs on the weightless filterbank; give --weights "
    "FILE for the real backbone."
)


def demo(
    data: Annotated[
        str, typer.Option(help="Photographs of your own: folder, archive or s3://...; empty = parts rendered here.")
    ] = "",
    weights: Annotated[
        str, typer.Option(help="A ResNet-18 weights file; empty = torchvision's download, else the filterbank.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder for the rendered parts and the runs.")] = Path("demo"),
    isolated: Isolated = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")
    ] = False,
) -> None:
    """Render parts with defects, run the whole DAG on them, and print where the report is."""
    from vqi.category import Category
    from vqi_pipelines.catalog import source_name
    from vqi_pipelines.commands.run import execute

    backbone: dict[str, Any] = {"name": "resnet18", "weights": weights or "imagenet"}
    if not weights and not _imagenet_at_hand():
        log.warning(NO_WEIGHTS)
        backbone = {"name": "filterbank"}
    values = {
        "name": source_name(data) if data else "flange",
        "data": {"source": data or str(_rendered(out))},
        "backbone": backbone,
        "method": {"name": "patchcore", "settings": {"coreset_ratio": 0.03}},
    }
    execute(Category.parse(values, "The demo"), out, json_output, isolated=isolated)


def _rendered(out: Path) -> Path:
    """The demo's parts, rendered unless this folder has them already."""
    folder = out / "parts"
    if not (folder / "train").is_dir():
        from vqi.dataset.generator import generate
        from vqi.platform.files import whole_folder

        log.info(f"Rendering parts into {folder} ...")
        with whole_folder(folder) as rendered:
            generate(rendered, seed=0, normals=60, test_normals=20, defects_each=6, size=(320, 320))
    return folder


def _imagenet_at_hand() -> bool:
    """Whether torchvision's ResNet-18 weights are cached or can be downloaded; a process of its own tries, which
    alone loads torch."""
    script = "from vqi.storage.weights import load_weights; load_weights('resnet18', 'imagenet')"
    return subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0
