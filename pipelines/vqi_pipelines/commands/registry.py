"""`vqi register`, `vqi models`, `vqi promote`, `vqi rollback`: bundles in MLflow's model registry."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqi.platform.errors import GateRefused
from vqi.platform.logs import logger
from vqi.tracking.address_name import SETTING, name_address
from vqi_pipelines.commands.predictor_options import Tracking

if TYPE_CHECKING:
    from vqi.category import Category
    from vqi.tracking.registry import ModelVersion

log = logger(__name__)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]
Name = Annotated[str, typer.Argument(help="The name of a registered model.")]


def register(
    bundle: Annotated[Path, typer.Argument(help="The bundle folder that a run exported.")],
    name: Annotated[str, typer.Option(help="Name of the model in the registry; empty = the bundle's category.")] = "",
    tracking: Tracking = "",
    experiment: Annotated[str, typer.Option(help="MLflow experiment that keeps the files.")] = "vqi",
    dataset: Annotated[
        str, typer.Option(help="Dataset that the bundle was made from (folder or s3://): what promote compares on.")
    ] = "",
    json_output: Json = False,
) -> None:
    """Make a bundle a version in MLflow's model registry, with the alias candidate. The same bundle is registered
    once."""
    from vqi.deployment.bundle import read_sidecar
    from vqi.registry.registering import register_bundle

    name = name or read_sidecar(bundle).name
    where = dataset if not dataset or "://" in dataset else os.path.abspath(dataset)
    version, new = register_bundle(bundle, name, tracking, experiment, dataset=where)
    if json_output:
        typer.echo(json.dumps(_row(version) | {"new": new}, indent=2))
    elif new:
        typer.echo(f"{version} is registered, with the alias candidate: models:/{version}")
    else:
        typer.echo(f"This bundle is version {version.version} of {version.name} already; nothing was registered.")


def models(
    name: Annotated[str, typer.Argument(help="A registered model, to see its versions; none: list all models.")] = "",
    tracking: Tracking = "",
    json_output: Json = False,
) -> None:
    """List the registered models, or the versions of one with their aliases, figures and what the gate decided."""
    from vqi.tracking.registry import open_registry

    with open_registry(tracking) as registry:
        names = [name] if name else registry.names()
        versions = {each: registry.versions(each) for each in names}
    if json_output:
        typer.echo(json.dumps({each: [_row(version) for version in rows] for each, rows in versions.items()}, indent=2))
    elif name:
        _print_versions(versions[name])
    else:
        _print_models(versions)


def promote(
    model: Annotated[str, typer.Argument(help="NAME (its alias candidate), NAME@ALIAS or NAME/VERSION.")],
    data: Annotated[
        str,
        typer.Option(
            help="Photographs to compare on: a Dataset's folder (its test split), or a set with a test folder; empty = "
            "the Dataset that the version was registered with, else the category's data.source."
        ),
    ] = "",
    category: Annotated[
        str, typer.Option(help="Category whose rule (promote.*) and data.* hold; empty = the one of the model's name.")
    ] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="path=value, such as promote.max_auroc_loss=0.005.")
    ] = None,
    tracking: Tracking = "",
    json_output: Json = False,
) -> None:
    """Compare a candidate with the champion on the same photographs, and make it the champion where the rule allows.

    Exit code 3 where it is refused; the decision and its figures are kept with the version.
    """
    from vqi.registry.promotion import promote as run
    from vqi.registry.promotion_table import promotion_lines, refusal
    from vqi.tracking.registry import CANDIDATE, ModelAddress

    address = ModelAddress.parse(model, CANDIDATE)
    chosen = _category(category or address.name, bool(category), data, set_ or [])
    if chosen.tracking.uri and not tracking:
        name_address(SETTING)
    promotion = run(
        model,
        chosen.promote,
        chosen.data.model_copy(update={"source": data}),
        tracking or chosen.tracking.uri,
        chosen.seed,
        "" if chosen.data.source == UNNAMED else chosen.data.source,
    )
    if json_output:
        typer.echo(json.dumps(promotion.values(), indent=2, allow_nan=False))
    else:
        for line in promotion_lines(promotion):
            typer.echo(line)
    if promotion.decision == "refused":
        log.error(f"vqi promote: {refusal(promotion)}")
        raise typer.Exit(GateRefused.exit_code)


def rollback(name: Name, tracking: Tracking = "", json_output: Json = False) -> None:
    """Make the champion before the present one the champion again."""
    from vqi.registry.promotion import roll_back

    back, present = roll_back(name, tracking)
    if json_output:
        value = {"name": name, "champion": back.version, "before": present.version if present else None}
        typer.echo(json.dumps(value, indent=2))
    else:
        was = f"; version {present.version} was" if present else ""
        typer.echo(f"Version {back.version} of {name} is the champion again{was}.")


# What stands for photographs where the registry may know some.
UNNAMED = "registered"


def _category(name: str, required: bool, data: str, overrides: list[str]) -> Category:
    """The category whose rule holds: one of the catalog where it has the name, else the defaults."""
    from vqi_pipelines.catalog import category_names, load_category

    held = required or name in category_names()
    source = [f"data.source={data or UNNAMED}"] if data or not held else []
    return load_category(name if held else "promote", [*source, *overrides])


def _row(version: ModelVersion) -> dict[str, Any]:
    return {
        "name": version.name,
        "version": version.version,
        "aliases": list(version.aliases),
        "created": version.created.isoformat(timespec="seconds"),
        "tags": dict(sorted(version.tags.items())),
    }


def _print_models(versions: dict[str, list[ModelVersion]]) -> None:
    from vqi.registry.promotion_table import table_lines

    rows = [("MODEL", "VERSIONS", "CHAMPION", "CANDIDATE")]
    for name, held in versions.items():
        aliases = {alias: str(version.version) for version in held for alias in version.aliases}
        rows.append((name, str(len(held)), aliases.get("champion", "-"), aliases.get("candidate", "-")))
    for line in table_lines(rows):
        typer.echo(line)


def _print_versions(versions: list[ModelVersion]) -> None:
    from vqi.registry.promotion_table import table_lines

    rows = [("VERSION", "ALIASES", "REGISTERED (UTC)", "METHOD", "IMAGE AUROC", "MiB", "BUNDLE", "GATE")]
    for version in versions:
        tags = version.tags
        rows.append(
            (
                str(version.version),
                ",".join(version.aliases) or "-",
                version.created.strftime("%Y-%m-%d %H:%M"),
                tags.get("vqi.method", "-"),
                tags.get("metric.image_auroc", "-"),
                tags.get("vqi.size_mib", "-"),
                version.digest[:12] or "-",
                tags.get("promotion.decision", "-"),
            )
        )
    for line in table_lines(rows):
        typer.echo(line)
