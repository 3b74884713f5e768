"""The documentation says everything the code declares, and its links and its navigation hold."""

import importlib.util
import re
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from pydantic import Field

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
# Made when the site is built, and not committed.
API = DOCS / "reference" / "api"
# What GitHub shows: the site's pages, and those around it.
PAGES = [
    *sorted(path for path in DOCS.rglob("*.md") if API not in path.parents),
    *sorted((ROOT / "examples").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "images/README.md")),
]


@pytest.fixture(scope="module")
def writer():
    spec = importlib.util.spec_from_file_location("write_reference", DOCS / "write_reference.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_complete_and_fresh(writer):
    """Run `make docs` if this fails. A sentence that names something undocumented asks for a description in the
    code."""
    wanted = {name: text for name, text in writer.pages().items() if not name.startswith("api/")}
    held = {path.relative_to(writer.FOLDER).as_posix(): path.read_text() for path in writer.FOLDER.glob("*.md")}
    assert sorted(held) == sorted(wanted)
    assert [name for name in wanted if held[name] != wanted[name]] == []


def test_every_key_method_command_and_step_has_an_entry(writer):
    from vqi.category import fields
    from vqi.detectors.settings import method_names, settings_class
    from vqi.placement import STEP_TABLE
    from vqi_pipelines.command import GROUPS

    settings, methods, commands, steps = (
        (writer.FOLDER / name).read_text() for name in ("settings.md", "methods.md", "commands.md", "steps.md")
    )
    assert [key for key in fields() if f"| `{key}` |" not in settings] == []
    ours = [name for name in method_names() if settings_class(name).__module__.startswith("vqi.")]
    assert [name for name in ours if f"\n## {name}\n" not in methods] == []
    assert [name for group in GROUPS.values() for name in group if f"\n### vqi {name}\n" not in commands] == []
    assert [step.name for step in STEP_TABLE if f"\n## {step.name}\n" not in steps] == []


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next of its level or above."""
    marks = heading.split(" ")[0]
    text = page.partition(f"\n{heading}\n")[2]
    assert text, f"there is no section {heading}"
    return re.split(rf"\n#{{1,{len(marks)}}} ", text)[0]


def test_every_setting_of_every_method_has_a_row(writer):
    from vqi.detectors.settings import SETTINGS

    page = (writer.FOLDER / "methods.md").read_text()
    for name, kind in SETTINGS.items():
        if kind.__module__.startswith("vqi."):
            text = section(page, f"## {name}")
            assert [key for key in kind.model_fields if f"\n| `{key}` | " not in text] == [], name


def test_every_option_of_every_command_has_a_row(writer):
    import typer.main

    from vqi_pipelines.command import app

    page = (writer.FOLDER / "commands.md").read_text()
    root = typer.main.get_command(app)
    commands = {"## Log": root} | {f"### vqi {name}": command for name, command in root.commands.items()}
    for heading, command in commands.items():
        text = page.partition("\n## ")[0] if command is root else section(page, heading)
        for param in command.params:
            rows = [row for row in text.splitlines() if row.startswith("| ")]
            if param.param_type_name == "option":
                named = [row for row in rows if all(f"`{each}`" in row.split(" | ")[0] for each in param.opts)]
            else:
                named = [row for row in rows if f"`{(param.metavar or param.name).upper()}" in row.replace("[", "")]
            assert len(named) == 1, (heading, param.name)
            assert named[0].rstrip(" |").split(" | ")[-1] not in ("", "empty"), (heading, param.name)


def test_every_input_and_output_of_every_step_is_named(writer):
    from vqi.placement import STEP_TABLE

    page = (writer.FOLDER / "steps.md").read_text()
    for step in STEP_TABLE:
        spec = getattr(importlib.import_module(step.face), step.name).component_spec
        text = section(page, f"## {step.name}")
        assert [name for name in {**spec.inputs, **(spec.outputs or {})} if f"`{name}`" not in text] == [], step.name


def test_every_variable_of_ours_is_documented():
    """An environment variable that the code reads stands in a page."""
    sources = [*(ROOT / "components").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]
    read = {name for path in sources for name in re.findall(r"\"(VQI_[A-Z_]+)\"", path.read_text())}
    # Between processes of one run, set by the code alone.
    internal = {"VQI_STEP", "VQI_NODE", "VQI_WARM_STEPS"}
    text = "".join(page.read_text() for page in PAGES)
    assert internal < read
    assert sorted(name for name in read - internal if name not in text) == []


@pytest.mark.parametrize("kind", ["command", "option", "step"])
def test_a_command_an_option_and_a_step_without_a_description_are_named(writer, monkeypatch, kind):
    import typer.main

    from vqi.steps.ingest.component import ingest
    from vqi_pipelines.command import app

    root = typer.main.get_command(app)
    monkeypatch.setattr(typer.main, "get_command", lambda _: root)
    if kind == "command":
        monkeypatch.setattr(root.commands["check"], "help", "")
    elif kind == "option":
        monkeypatch.setattr(root.commands["check"].params[0], "help", "")
    else:
        monkeypatch.setattr(ingest.component_spec, "description", "")
    named = {"command": "command check", "option": "source of command check", "step": "step ingest"}[kind]
    with pytest.raises(writer.Undocumented, match=f"Without a description: {named}"):
        writer.pages()


def test_what_has_no_description_is_named(writer, monkeypatch):
    from vqi.detectors.settings import SETTINGS, MethodSettings

    class Silent(MethodSettings):
        method: ClassVar[str] = "silent"
        summary: ClassVar[str] = "says nothing"
        paper: ClassVar[str] = "none"

        strength: int = 1
        unsourced: float = Field(0.5, description="described, from nowhere")

    Silent.__module__ = "vqi.detectors.settings.silent"
    monkeypatch.setitem(SETTINGS, "silent", Silent)
    with pytest.raises(
        writer.Undocumented, match=r"strength of silent .*description.*source.*unsourced of silent \(source\)"
    ):
        writer.pages()


def test_every_module_has_an_entry_in_the_python_reference(writer):
    pages = writer.api_pages()
    listed = [
        line.removeprefix("::: ") for text in pages.values() for line in text.splitlines() if line.startswith("::: ")
    ]
    assert len(set(listed)) == len(listed) > 100
    assert {"vqi.deployment.predictor", "vqi.category", "vqi_pipelines.commands.run"} <= set(listed)
    assert "::: vqi.detectors.interface\n" in pages["api/vqi.detectors.md"]


def test_limits_and_defaults_read_as_they_are_checked(writer):
    row = next(
        line
        for line in writer.pages()["settings.md"].splitlines()
        if line.startswith("| `threshold.false_reject_rate`")
    )
    assert row.split(" | ")[1:3] == ["number, above 0, below 1", "`0.01`"]
    assert "| `data.calibration_fraction` | number, at least 0, at most 0.9 | `auto` |" in writer.pages()["settings.md"]


def test_the_table_of_rooms_is_that_of_the_arrows():
    from test_arrows import ALLOWED

    rows = re.findall(r"^\| `(vqi[\w.]*)` \| .* \| ([\w, ]+) \|$", (DOCS / "design.md").read_text(), re.MULTILINE)
    table = {}
    for room, words in rows:
        if words.startswith("all above"):
            table[room] = set(table) - {
                f"vqi.{name}" for name in words.removeprefix("all above").removeprefix(" but ").split(", ")
            }
        else:
            table[room] = {f"vqi.{name}" for name in words.split(", ") if name != "nothing"}
    assert table == ALLOWED


def slug(heading: str) -> str:
    """The anchor of a heading as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower()).replace(" ", "-")


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    links = [
        link
        for link in re.findall(r"\]\(([^)\s]+)\)", prose(page))
        if "://" not in link and not link.startswith("mailto:")
    ]
    for link in links:
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if API in target.parents:
            continue
        assert target.exists(), f"{link} leads nowhere"
        assert ROOT in target.parents
        # On the site a link out of docs/ leads nowhere.
        assert DOCS not in page.parents or DOCS in target.parents, f"{link} leaves docs/; name the file instead"
        if anchor:
            assert anchor in {
                slug(heading) for heading in re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            }, f"no heading for {link}"


def test_the_site_is_built_strictly():
    """mkdocs counts no warning with --quiet."""
    (command,) = re.findall(r"mkdocs build.*", (ROOT / "Makefile").read_text())
    assert "--strict" in command
    assert "--quiet" not in command
    assert "-q" not in command.split()


def test_every_page_is_in_the_navigation():
    def listed(node):
        if isinstance(node, str):
            return [node]
        return [page for each in (node.values() if isinstance(node, dict) else node) for page in listed(each)]

    pages = listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert len(set(pages)) == len(pages)
    existing = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if API not in path.parents}
    assert existing | {"reference/api/index.md"} == set(pages)


def test_files_that_pages_name_are_in_the_repository():
    """A page names files in code, such as `tests/test_arrows.py`: they move, and the page must move with them."""
    folders = "components|pipelines|tests|manifests|docs|examples|images"
    wrong = []
    for page in PAGES:
        if "reference" in page.parts:
            continue
        for name in re.findall(rf"`((?:{folders})/[\w./-]+\.(?:py|yaml|yml|md|json|sh))`", page.read_text()):
            if not (ROOT / name).exists():
                wrong.append(f"{page.relative_to(ROOT)}: {name}")
    assert wrong == []
