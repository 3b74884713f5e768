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

# Names that are not renamed yet, by file; each waits for the renaming of its own folder. The set only shrinks: nothing
# is added to it, and a name that has gone must leave it.
NOT_RENAMED = {
    "components/vqi/category.py: given",
    "components/vqi/category.py: asked",
    "components/vqi/dataset/check_page.py: observations",
    "components/vqi/dataset/check_page.py: looks",
    "components/vqi/dataset/check_page.py: observation",
    "components/vqi/dataset/check_page.py: look",
    "components/vqi/dataset/checks.py: observations",
    "components/vqi/dataset/checks.py: looks",
    "components/vqi/dataset/checks.py: found",
    "components/vqi/dataset/checks.py: observation",
    "components/vqi/dataset/checks.py: look",
    "components/vqi/dataset/layouts/detection.py: said",
    "components/vqi/dataset/layouts/folders.py: said",
    "components/vqi/dataset/layouts/listing.py: found",
    "components/vqi/dataset/layouts/masks.py: given_to",
    "components/vqi/dataset/layouts/masks.py: ending",
    "components/vqi/dataset/layouts/masks.py: found",
    "components/vqi/dataset/layouts/names.py: _said",
    "components/vqi/dataset/layouts/names.py: found",
    "components/vqi/dataset/layouts/names.py: said",
    "components/vqi/dataset/masks.py: apart",
    "components/vqi/dataset/observation.py: observation",
    "components/vqi/dataset/observation.py: MaskObservation",
    "components/vqi/dataset/observation.py: Look",
    "components/vqi/dataset/observation.py: Observation",
    "components/vqi/dataset/observation.py: observe",
    "components/vqi/dataset/observation.py: _observe",
    "components/vqi/dataset/observation.py: look",
    "components/vqi/dataset/observation.py: looks",
    "components/vqi/dataset/splits.py: asked",
    "components/vqi/deployment/bundle.py: found",
    "components/vqi/deployment/graph_runtime.py: found",
    "components/vqi/deployment/parity.py: found",
    "components/vqi/deployment/parity.py: found_scores",
    "components/vqi/deployment/parity.py: found_maps",
    "components/vqi/detectors/backbones.py: found",
    "components/vqi/detectors/cflow.py: found",
    "components/vqi/detectors/cflow.py: given",
    "components/vqi/detectors/cs_flow.py: found",
    "components/vqi/detectors/cutpaste.py: asked",
    "components/vqi/detectors/fine_tuning.py: observe",
    "components/vqi/detectors/flows.py: given",
    "components/vqi/detectors/nearest.py: found",
    "components/vqi/detectors/patch_description.py: found",
    "components/vqi/detectors/storage.py: found",
    "components/vqi/evaluation/aupro.py: found",
    "components/vqi/evaluation/metrics.py: found",
    "components/vqi/evaluation/pictures.py: FOUND",
    "components/vqi/evaluation/pictures.py: found",
    "components/vqi/evaluation/report.py: found",
    "components/vqi/evaluation/results.py: found",
    "components/vqi/evaluation/verdict.py: outcome",
    "components/vqi/evaluation/verdict.py: asked",
    "components/vqi/evaluation/verdict.py: found",
    "components/vqi/placement.py: _given",
    "components/vqi/placement.py: asked",
    "components/vqi/placement.py: found",
    "components/vqi/placement.py: given",
    "components/vqi/platform/proxies.py: found",
    "components/vqi/platform/threads.py: _told",
    "components/vqi/platform/threads.py: told",
    "components/vqi/steps/build_index/component.py: this",
    "components/vqi/steps/build_index/step.py: apart",
    "components/vqi/steps/check_dataset/component.py: this",
    "components/vqi/steps/check_dataset/step.py: observations",
    "components/vqi/steps/compare/component.py: this",
    "components/vqi/steps/compare/page.py: told",
    "components/vqi/steps/compare/trial_result.py: said",
    "components/vqi/steps/compare/trial_result.py: there",
    "components/vqi/steps/evaluate/collector.py: laid",
    "components/vqi/steps/evaluate/collector.py: found",
    "components/vqi/steps/evaluate/collector.py: said",
    "components/vqi/steps/evaluate/component.py: this",
    "components/vqi/steps/evaluate/step.py: found",
    "components/vqi/steps/export/component.py: this",
    "components/vqi/steps/ingest/component.py: this",
    "components/vqi/steps/place/component.py: this",
    "components/vqi/steps/plan_trials/component.py: this",
    "components/vqi/steps/plan_trials/planning.py: told",
    "components/vqi/steps/plan_trials/planning.py: asked",
    "components/vqi/steps/running.py: this",
    "components/vqi/steps/train/component.py: this",
    "components/vqi/steps/train/cross_validation.py: found",
    "components/vqi/steps/train/sample_split.py: found",
    "components/vqi/steps/train/step.py: found",
    "components/vqi/storage/object_store.py: asked",
    "components/vqi/storage/object_store.py: told",
    "components/vqi/storage/object_store.py: there",
    "components/vqi/storage/object_store.py: found",
    "components/vqi/storage/object_store.py: given_up",
    "components/vqi/storage/object_store.py: _waiting_said",
    "components/vqi/storage/s3_answers.py: asked_pause",
    "components/vqi/storage/s3_answers.py: asked",
    "components/vqi/storage/s3_answers.py: found",
    "components/vqi/storage/weights.py: found",
    "components/vqi/tools/cost.py: told",
    "components/vqi/tracking/comparisons.py: found",
    "components/vqi/tracking/runs.py: _still_there",
    "components/vqi/tracking/runs.py: found",
    "components/vqi/training/checkpoints.py: found",
    "components/vqi/training/cross_validation.py: apart",
    "components/vqi/training/loop.py: told",
    "components/vqi/training/loop.py: found",
}


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
    assert [change for name, change in old_words().items() if name not in NOT_RENAMED] == []


def test_what_is_renamed_leaves_the_set() -> None:
    assert sorted(NOT_RENAMED - old_words().keys()) == []


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
