"""`vqi methods`: the methods there are, and everything about one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vqi.tools.cost import Cost
    from vqi.tools.describe import Method

WIDTH = 100


def methods(
    name: Annotated[
        str, typer.Argument(help="A method, to see its settings and what it costs here; none: list them all.")
    ] = "",
    json_output: Annotated[
        bool, typer.Option("--json", help="Print JSON on standard output and nothing else.")
    ] = False,
    cost: Annotated[bool, typer.Option(help="Measure for some seconds what the method costs on this machine.")] = True,
    size: Annotated[
        str, typer.Option(help="Image size that the cost is measured at: a side, or height,width.")
    ] = "256",
    backbone: Annotated[
        str, typer.Option(help="Network that the cost is measured with (random weights).")
    ] = "resnet18",
    layers: Annotated[str, typer.Option(help="Its nodes, by commas; empty = the method's own.")] = "",
    device: Annotated[str, typer.Option(help="Where the cost is measured: auto, cpu, cuda, xpu or hpu.")] = "auto",
) -> None:
    """List the methods, or describe one: its settings, where their defaults come from, and what it costs on this
    machine."""
    import json

    from vqi.tools.describe import describe, describe_all

    if not name:
        descriptions = describe_all()
        if json_output:
            typer.echo(json.dumps([_row(method) for method in descriptions], indent=2))
            return
        for method in descriptions:
            typer.echo(f"{method.name:13} {method.kind:11} {_budget(method):34} {method.summary}")
        typer.echo(
            "\nmemory: an index of normals, nothing is learnt by gradient. trained: learns from normals. "
            "supervised: learns from labelled defects too.\n"
            "vqi methods NAME tells everything about one; vqi preview NAME shows what it learns from."
        )
        return
    method = describe(name)
    method_cost = _measure(name, size, backbone, layers, device) if cost else None
    if json_output:
        value = method.to_dict() | {"kind": method.kind, "cost": method_cost.to_dict() if method_cost else None}
        typer.echo(json.dumps(value, indent=2, allow_nan=False))
        return
    for line in [*_about(method), *(_cost_lines(method, method_cost) if method_cost else [])]:
        typer.echo(line)


def _measure(name: str, size: str, backbone: str, layers: str, device: str) -> Cost:
    from vqi.category import Category

    values: dict[str, Any] = {
        "image": {"size": size},
        "backbone": {"name": backbone, "weights": "random", "layers": layers},
        "method": {"name": name},
        "compute": {"device": device},
    }
    category = Category.parse(values, "The options")
    from vqi.tools.cost import measure_cost

    return measure_cost(
        name, category.method_settings, category.backbone, category.geometry.input_size, category.compute
    )


def _row(method: Method) -> dict[str, Any]:
    return {key: value for key, value in method.to_dict().items() if key in ("name", "summary", "kind", "budget")}


def _budget(method: Method) -> str:
    budget = method.budget
    if budget is None:
        return "nothing to train"
    length = f"{budget.steps} steps" if budget.steps else f"{budget.epochs} epochs"
    return f"{length} of {budget.batch_size} image{'s' if budget.batch_size > 1 else ''} a step"


def _about(method: Method) -> list[str]:
    """What a method is and each of its settings, in lines."""
    import textwrap

    kinds = {
        "memory": "memory: an index of normals, nothing is learnt by gradient",
        "trained": "trained: learns from normals alone",
        "supervised": "supervised: learns from normals and labelled defects",
    }
    facts = [
        ("Paper", method.paper),
        ("Kind", kinds[method.kind]),
        ("Budget", f"{_budget(method)} (train.max_steps, train.max_epochs)"),
    ]
    if method.kind == "memory":
        facts.pop()
    if not method.uses_backbone:
        facts.append(("Backbone", "none; it is trained from scratch"))
    if method.extra_images:
        facts.append(("More images", f"from method.settings.{method.extra_images}, if you have any"))
    lines = [f"{method.name}: {method.summary}", ""]
    for title, text in facts:
        lines += textwrap.wrap(text, WIDTH, initial_indent=f"{title + ':':13}", subsequent_indent=" " * 13)
    lines += ["", "Settings, --set method.settings.NAME=VALUE:"]
    for setting in method.settings:
        lines += ["", f"  {setting.name} = {_format_default(setting.default)}    ({setting.allowed})"]
        lines += textwrap.wrap(
            f"{setting.meaning[0].upper()}{setting.meaning[1:]}.",
            WIDTH,
            initial_indent=" " * 6,
            subsequent_indent=" " * 6,
        )
        if setting.source:
            lines += textwrap.wrap(
                f"Source: {setting.source}.", WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6
            )
    return lines


def _format_default(value: Any) -> str:
    """A default as a person would write it after `--set ...=`."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) or "''"


def _cost_lines(method: Method, cost: Cost) -> list[str]:
    """What was measured and what was extrapolated from it, in lines."""
    network = f"{cost.backbone}, {', '.join(cost.layers)}" if method.uses_backbone else "no backbone"
    threads = f", {cost.threads} thread{'s' if cost.threads > 1 else ''}"
    where = cost.device + (threads if cost.device == "cpu" else "")
    lines = ["", f"Cost here ({where}; {network}; {cost.size[0]} x {cost.size[1]} pixels; torch, float32):"]
    lines.append(f"  one image          {cost.latency_ms:.0f} ms to score, alone")
    for training in cost.trainings:
        scaled = "" if training.measured_batch == training.batch_size else f", from steps of {training.measured_batch}"
        images = f"{training.batch_size} image{'s' if training.batch_size > 1 else ''}"
        lines.append(f"  {training.name + ' step':18} {training.milliseconds:.0f} ms of {images}{scaled}")
        lines.append(f"  {training.name:18} {_time(training.seconds)} for the budget of {training.steps} steps")
    if cost.index_seconds:
        lines.append(f"  index              {_time(cost.index_seconds)}, extrapolated from fewer images")
    lines.append(f"  in all             {_time(3600 * cost.hours)} from {cost.images} photographs to a detector")
    lines.append(
        "Whatever else this machine did meanwhile is in these numbers; an exported bundle scores faster than torch as "
        "a rule."
    )
    return lines


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
