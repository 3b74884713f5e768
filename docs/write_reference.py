"""Writes docs/reference/: every setting, method, command, step and module, from the code that declares them.

`make docs` runs it; `tests/test_docs.py` fails where a committed page is stale or something has no description.
The pages of modules, docs/reference/api/, are lists of names that mkdocstrings fills in for the site; they are not
committed.
"""

from __future__ import annotations

import sys
import textwrap
import types
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from vqi.category import Category
from vqi.detectors.settings import SETTINGS, MethodSettings
from vqi.platform import errors, logs
from vqi.platform.settings import choices_of, extra_of, type_of

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
GENERATED = "<!-- Written by docs/write_reference.py: change the code it comes from, then run make docs. -->\n\n"

WORDS: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    dict: "mapping",
    list: "list",
}


class Undocumented(Exception):
    """Names everything that has no description."""


def pages() -> dict[str, str]:
    """The text of every page by its path below docs/reference/. Raises Undocumented."""
    missing: list[str] = []
    written = {
        "settings.md": settings_page(missing),
        "methods.md": methods_page(missing),
        "commands.md": commands_page(missing),
        "steps.md": steps_page(missing),
        **api_pages(),
    }
    if missing:
        raise Undocumented("Without a description: " + "; ".join(missing) + ".")
    return {name: GENERATED + _wrapped(text) for name, text in written.items()}


def _wrapped(text: str) -> str:
    """Paragraphs at 120 columns; tables and headings stay as they are."""
    lines = text.splitlines()
    return (
        "\n".join(
            textwrap.fill(line, 120, break_long_words=False, break_on_hyphens=False) if line[:1].isalpha() else line
            for line in lines
        )
        + "\n"
    )


def settings_page(missing: list[str]) -> str:
    """Every key of a category, section by section."""
    lines = [
        "# Settings of a category",
        "",
        "A category is one product: a YAML file in `pipelines/catalog/`, or keys on the command line (`--set "
        "image.size=320`), or the "
        "parameters of a run in KFP's form (`image_size`). The three are the same settings. The defaults below are "
        "those of the form. "
        "A key that does not exist is refused, with the nearest match.",
    ]
    defaults = Category().parameters()
    top = {name: field for name, field in Category.model_fields.items() if not _is_section(field)}
    sections = {name: field for name, field in Category.model_fields.items() if _is_section(field)}
    lines += ["", "## Top level", "", *_table("", top, defaults, missing)]
    for section, field in sections.items():
        lines += ["", f"## {section}", "", *_table(f"{section}.", type_of(field).model_fields, defaults, missing)]
    lines += ["", "`method.settings` holds the settings of the method itself: see [Methods](methods.md)."]
    return "\n".join(lines) + "\n"


def methods_page(missing: list[str]) -> str:
    """Every method of this package with its settings."""
    lines = [
        "# Methods",
        "",
        "Set them with `--set method.name=NAME --set method.settings.KEY=VALUE`. `vqi methods NAME` prints the same "
        "page, measures what the "
        "method costs on your machine, and describes the methods of other installed packages too "
        "([Extend](../extending.md)). "
        "[Choose a method](../choosing-a-method.md) compares them.",
    ]
    for name, kind in SETTINGS.items():
        if not kind.__module__.startswith("vqi."):
            continue  # a package that happens to be installed here
        lines += [
            "",
            f"## {name}",
            "",
            f"{_sentence(kind.summary)}",
            "",
            f"- Paper: {kind.paper}",
            f"- Learns from: {_learns(kind)}",
        ]
        if kind.budget:
            length = f"{kind.budget.steps} steps" if kind.budget.steps else f"{kind.budget.epochs} epochs"
            lines.append(
                f"- Default training: {length}, batches of {kind.budget.batch_size} (`train.max_steps`, "
                "`train.max_epochs`, `train.batch_size`)"
            )
        lines.append(f"- Backbone: {'`backbone.name`' if kind.uses_backbone else 'none, it learns from scratch'}")
        if kind.extra_images:
            lines.append(f"- More images: `method.settings.{kind.extra_images}`, optional")
        lines += ["", "| setting | value | default | what it does | source of the default |", "|---|---|---|---|---|"]
        for key, field in kind.model_fields.items():
            source = extra_of(field, "source") or ""
            if not field.description or not source:
                missing.append(
                    f"setting {key} of "
                    f"{name}{'' if field.description else ' (description)'}{'' if source else ' (source)'}"
                )
            lines.append(_row(f"`{key}`", _allowed(field), _code(field.default), field.description or "", source))
    return "\n".join(lines) + "\n"


def commands_page(missing: list[str]) -> str:
    """Every command with its arguments and options, and the exit codes."""
    import typer.main

    from vqi_pipelines.command import GROUPS, app

    root: Any = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        "`vqi COMMAND --help` prints the same. Options of all commands stand before the command: `vqi -v run`.",
        "",
        "| option | what it does |",
        "|---|---|",
    ]
    for param in root.params:
        if not param.help:
            missing.append(f"{param.name} of vqi")
        lines.append(_row(", ".join(f"`{each}`" for each in param.opts), param.help or ""))
    lines += [
        "",
        "## Log",
        "",
        f"Results go to standard output, everything else to standard error. The variable `{logs.VARIABLE}` holds words "
        "with commas between them, and steps in a cluster read it too:",
        "",
        "| word | meaning |",
        "|---|---|",
    ]
    lines += [_row(f"`{word}`", meaning) for word, meaning in logs.WORDS.items()]
    lines += [
        "",
        "## Exit codes",
        "",
    ]
    lines += [
        "Every command and every step ends with one of these:",
        "",
        "| code | meaning |",
        "|---|---|",
        _row("0", "All is well."),
    ]
    kinds = (errors.RunFailed, errors.BadInput, errors.GateRefused)
    lines += [_row(str(kind.exit_code), _first(kind.__doc__)) for kind in kinds]
    lines.append(_row("130", "Interrupted with Ctrl-C."))
    lines += [
        "",
        "With 1, 2 and 3 the last line on standard error is one sentence: what is wrong, where, and what to do.",
    ]
    for title, commands in GROUPS.items():
        lines += ["", f"## {title}"]
        for name in commands:
            lines += ["", f"### vqi {name}", "", *_command(name, root.commands[name], missing)]
    return "\n".join(lines) + "\n"


def _command(name: str, command: Any, missing: list[str]) -> list[str]:
    if not command.help:
        missing.append(f"command {name}")
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option"]
    usage = " ".join([f"vqi {name}", *(_usage(param) for param in arguments), *(["[OPTIONS]"] if options else [])])
    lines = [
        "```",
        usage,
        "```",
        "",
        *(command.help or "").strip().splitlines(),
        "",
        "| option | default | what it does |",
        "|---|---|---|",
    ]
    for param in [*arguments, *options]:
        if not param.help:
            missing.append(f"{param.name} of command {name}")
        shown = (
            ", ".join(f"`{each}`" for each in [*param.opts, *param.secondary_opts])
            if param in options
            else f"`{_usage(param)}`"
        )
        environment = [param.envvar] if isinstance(param.envvar, str) else list(param.envvar or [])
        text = (param.help or "") + (
            f" Environment: {', '.join(f'`{each}`' for each in environment)}." if environment else ""
        )
        default = "required" if param.required else _code(getattr(param.default, "value", param.default))
        lines.append(_row(shown, default, text))
    return lines


def _usage(param: Any) -> str:
    shown = (param.metavar or param.name or "").upper() + ("..." if param.nargs == -1 or param.multiple else "")
    return shown if param.required else f"[{shown}]"


def steps_page(missing: list[str]) -> str:
    """Every step: what it does, where it runs, its inputs and outputs."""
    from vqi.placement import STEP_TABLE

    lines = [
        "# Steps",
        "",
        "A step is a task of the DAG and a container in a cluster. Artefacts are files that a step reads or writes; "
        "parameters are plain values. "
        "The resources are the defaults; [Where steps run](../placement.md) says how to change them.",
        "",
        "| step | image | cpu requested / limit | memory | computes on the device |",
        "|---|---|---|---|---|",
    ]
    for step in STEP_TABLE:
        link = f"[{step.name}](#{step.name})"
        lines.append(
            _row(
                link, f"`{step.image}`", f"{step.cpu_request} / {step.cpu}", step.memory, "yes" if step.device else "no"
            )
        )
    for step in STEP_TABLE:
        component = getattr(import_module(step.face), step.name)
        spec = component.component_spec
        if not spec.description:
            missing.append(f"step {step.name}")
        lines += ["", f"## {step.name}", "", *(spec.description or "").strip().splitlines(), ""]
        reads, writes = _ports(spec.inputs), _ports(spec.outputs)
        artefacts = [(name, kind) for name, kind in reads if "." in kind]
        parameters = [name for name, kind in reads if "." not in kind]
        lines += [
            "| | artefacts | parameters |",
            "|---|---|---|",
            _row("reads", _artefacts(artefacts), _names(parameters)),
        ]
        made = [(name, kind) for name, kind in writes if "." in kind]
        lines.append(_row("writes", _artefacts(made), _names([name for name, kind in writes if "." not in kind])))
    return "\n".join(lines) + "\n"


def _ports(specs: Any) -> list[tuple[str, str]]:
    return [(name, str(spec.type)) for name, spec in (specs or {}).items()]


def _artefacts(ports: list[tuple[str, str]]) -> str:
    return ", ".join(f"`{name}` ({kind.partition('@')[0].rpartition('.')[2]})" for name, kind in ports) or "none"


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def api_pages() -> dict[str, str]:
    """A page a room, whose text mkdocstrings makes from the docstrings."""
    found: dict[str, str] = {}
    for package in ("vqi", "vqi_pipelines"):
        base = ROOT / ("components" if package == "vqi" else "pipelines") / package
        rooms = sorted(path.name for path in base.iterdir() if path.is_dir() and list(_modules(path, base.parent)))
        for room in rooms:
            found[f"api/{package}.{room}.md"] = _api_page(f"{package}.{room}", list(_modules(base / room, base.parent)))
        own = [f"{package}.{path.stem}" for path in sorted(base.glob("*.py")) if path.stem != "__init__"]
        found[f"api/{package}.md"] = _api_page(package, own)
    index = ["# Python API", ""]
    index += [
        "Everything below comes from the docstrings. What a program of yours is most likely to use: "
        "[`Predictor`](vqi.deployment.md) to predict with a bundle, [`Category`](vqi.md) for configuration, "
        "[`Detector`](vqi.detectors.md) and `MethodSettings` to write a method, [`LayoutReader`](vqi.dataset.md) "
        "to write a layout ([Extend](../../extending.md)).",
        "",
        "| package | modules |",
        "|---|---|",
    ]
    for name, text in sorted(found.items()):
        package = name.removeprefix("api/").removesuffix(".md")
        modules = [line.removeprefix("::: ") for line in text.splitlines() if line.startswith("::: ")]
        index.append(
            _row(f"[`{package}`]({package}.md)", _names([module.removeprefix(f"{package}.") for module in modules]))
        )
    found["api/index.md"] = "\n".join(index) + "\n"
    return found


def _modules(folder: Path, base: Path) -> Iterator[str]:
    """The modules below `folder` that hold something, by their dotted names."""
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text()
        if "\ndef " in text or "\nclass " in text or "\nasync def " in text:
            parts = path.relative_to(base).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _api_page(title: str, modules: list[str]) -> str:
    return f"# {title}\n" + "".join(f"\n::: {module}\n" for module in modules)


def _is_section(field: FieldInfo) -> bool:
    kind = type_of(field)
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _table(prefix: str, fields: dict[str, FieldInfo], defaults: dict[str, Any], missing: list[str]) -> list[str]:
    lines = ["| key | value | default | what it does |", "|---|---|---|---|"]
    for key, field in fields.items():
        if not field.description:
            missing.append(f"setting {prefix}{key}")
        default = defaults.get(f"{prefix}{key}".replace(".", "_"), field.default)
        lines.append(_row(f"`{prefix}{key}`", _allowed(field), _code(default), field.description or ""))
    return lines


def _allowed(field: FieldInfo) -> str:
    """The type and limits of a field in words."""
    if choices := choices_of(field):
        return "one of " + ", ".join(f"`{choice}`" for choice in choices)
    return ", ".join([_type_words(type_of(field)), *_limits(field)])


def _type_words(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_type_words(each) for each in inner if each is not type(None))
    if origin is tuple:
        word = WORDS.get(inner[0], "value")
        return f"list of {word}s" if Ellipsis in inner else f"{len(inner)} {word}s"
    return WORDS.get(origin or kind, getattr(kind, "__name__", str(kind)))


def _limits(field: FieldInfo) -> list[str]:
    words = {
        annotated_types.Ge: "at least",
        annotated_types.Gt: "above",
        annotated_types.Le: "at most",
        annotated_types.Lt: "below",
    }
    limits = []
    for rule in field.metadata:
        for kind, word in words.items():
            if isinstance(rule, kind):
                limits.append(f"{word} {next(iter(_values_of(rule))):.15g}")
        if isinstance(rule, annotated_types.MaxLen):
            limits.append(f"at most {rule.max_length} characters")
        if pattern := getattr(rule, "pattern", None):
            limits.append(f"matching `{pattern}`")
    return limits


def _values_of(rule: Any) -> list[Any]:
    """The values of a frozen rule such as Ge(0)."""
    return [getattr(rule, name) for name in rule.__slots__] if hasattr(rule, "__slots__") else list(vars(rule).values())


def _learns(kind: type[MethodSettings]) -> str:
    if kind.supervised:
        return "good photographs and labelled defects, by gradient"
    return (
        "good photographs, by gradient"
        if kind.budget
        else "good photographs, by an index of their features; nothing is trained by gradient"
    )


def _code(value: Any) -> str:
    if value is None or value is PydanticUndefined or value == "":
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}" if text else ""


def _first(text: str | None) -> str:
    return _sentence((text or "").strip().split("\n\n")[0])


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def write(folder: Path = FOLDER) -> None:
    """Write every page, and remove what is no longer one of them."""
    wanted = pages()
    for name, text in wanted.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
    for path in folder.rglob("*.md"):
        if path.relative_to(folder).as_posix() not in wanted:
            path.unlink()


if __name__ == "__main__":
    try:
        write()
    except Undocumented as error:
        sys.exit(f"write_reference: {error}")
