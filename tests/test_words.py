"""Names are terms of the field (CONTRIBUTING.md, "Words"): no Python name holds a word of the old vocabulary."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("components", "pipelines")

# The old word, and what to write instead.
INSTEAD = {
    **dict.fromkeys(("leg", "legs"), "trial"),
    **dict.fromkeys(("lesson", "lessons"), "training job, pretraining"),
    **dict.fromkeys(("division", "divisions", "divide"), "sample split, split"),
    **dict.fromkeys(("watched", "observed"), "tracked images"),
    **dict.fromkeys(("look", "looks"), "image statistics"),
    **dict.fromkeys(("observe", "observation", "observations"), "inspect, inspection"),
    **dict.fromkeys(("gathering", "gatherings"), "collector"),
    **dict.fromkeys(("outcome", "outcomes", "ending", "endings"), "result"),
    "ahead": "prefetcher",
    **dict.fromkeys(("portions", "pieces"), "micro-batches, chunks"),
    **dict.fromkeys(
        ("told", "said", "asked", "laid", "given", "there", "apart", "found", "this"), "a noun that says what it holds"
    ),
}

# Names that a library prescribes, such as a method that a subclass overrides or a field of its protocol, as
# "file: name", each with its reason.
PRESCRIBED: dict[str, str] = {}


def names_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every name that the code gives itself, with its line: functions, classes, parameters, variables, attributes and
    aliases. A name that is only used, such as FileNotFoundError, belongs to what defines it."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield node.lineno, name


def words_of(name: str) -> list[str]:
    """The words of a name in snake_case or CamelCase, in lower case."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower().split("_")


@cache
def old_words() -> dict[str, str]:
    """What to change, by "file: name": the name's line, the old word in it and what to write instead."""
    changes: dict[str, str] = {}
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        file = path.relative_to(ROOT)
        names = [(1, part) for part in file.with_suffix("").parts]
        for line, name in [*names, *names_in(ast.parse(path.read_text()))]:
            for word in words_of(name):
                if word in INSTEAD and f"{file}: {name}" not in PRESCRIBED:
                    changes.setdefault(
                        f"{file}: {name}", f"{file}:{line}: {name} holds {word!r}; write {INSTEAD[word]}"
                    )
    return changes


def test_no_name_holds_an_old_word() -> None:
    assert list(old_words().values()) == []


@pytest.mark.parametrize(
    "code",
    [
        "def find_found(): ...",
        "class FoundImage: ...",
        "class MLLeg: ...",
        "def count(given): ...",
        "for _told in lines: ...",
        "run.outcome = 1",
        "x = [1 for OLD_PIECES in y]",
        "if (said := read()): ...",
        "import step as this",
        "match x:\n    case [first, *apart]: ...",
    ],
)
def test_an_old_word_is_seen_wherever_a_name_is_made(code: str) -> None:
    assert any(word in INSTEAD for _, name in names_in(ast.parse(code)) for word in words_of(name))


@pytest.mark.parametrize("code", ["except_ = FileNotFoundError", "foundation = 1", "run(given=1)", "x = pair.there"])
def test_part_of_a_word_and_a_librarys_name_are_fine(code: str) -> None:
    assert not any(word in INSTEAD for _, name in names_in(ast.parse(code)) for word in words_of(name))
