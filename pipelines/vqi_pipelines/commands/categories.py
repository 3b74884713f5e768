"""`vqi categories`: what the catalog holds."""

from __future__ import annotations

import typer


def categories() -> None:
    """List the product categories of the catalog."""
    from vqi.platform.errors import BadInput
    from vqi_pipelines.catalog import category_names, load_category

    for name in category_names():
        try:
            category = load_category(name)
            typer.echo(f"{name:20} {category.method.name:12} {category.backbone.name:20} {category.data.source}")
        except BadInput as error:
            typer.echo(f"{name:20} {error}")
