"""Records: what is written is read back, what an earlier version wrote is still read, and what is damaged is one
sentence that names the file and the key. `records_before` holds files that version 0.1 wrote."""

from __future__ import annotations

import ast
import json
import math
import re
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from example_results import counts, example_results, metrics, threshold
from vqi.dataset.check_record import CheckRecord
from vqi.detectors.storage import IndexRecord, NetworkRecord, read_network
from vqi.evaluation.calibration import CalibrationImage, CalibrationRecord, read_calibration
from vqi.evaluation.histogram import Histogram
from vqi.evaluation.records import (
    EXAMPLES,
    RESULTS,
    Results,
    TrackedAt,
    parse_results,
    read_examples,
    read_results,
    write_examples,
    write_results,
)
from vqi.platform.errors import BadInput
from vqi.platform.records import FileRecord, Record, parse_record, read_record, write_record
from vqi.steps.compare.comparison import ComparisonRecord, Figures, MeanFigures, TrialRow
from vqi.steps.reports import StepReport, read_step_report
from vqi.tools.distill import TeacherRecord
from vqi.training.record import NetworkNotes, notes_of
from vqi_pipelines.local_run import Summary

ROOT = Path(__file__).resolve().parents[1]
BEFORE = Path(__file__).parent / "records_before"
KINDS: dict[str, type[FileRecord]] = {
    "results.json": Results,
    "network.json": NetworkRecord,
    "index.json": IndexRecord,
    "calibration.json": CalibrationRecord,
    "train.json": StepReport,
    "dataset-check.json": CheckRecord,
    "export.json": StepReport,
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_written_before_is_read_and_written_again_byte_for_byte(name: str, tmp_path: Path) -> None:
    kind, before = KINDS[name], (BEFORE / name).read_text()
    write_record(tmp_path / name, read_record(kind, BEFORE / name))
    after = (tmp_path / name).read_text()
    if kind.once_without_format and '"format"' not in before:
        before = before.replace("{\n", f'{{\n  "format": "{kind.format_name}",\n', 1)
    assert after == before


def test_what_was_written_before_says_what_it_said() -> None:
    results, network = read_results(BEFORE), read_network(BEFORE)
    notes = notes_of(network, BEFORE)
    assert (results.method, results.metrics.confusion.defects, results.threshold.kind) == ("simsiam", 210, "split")
    assert results.training is not None
    assert notes.training is not None
    assert results.training == notes.training.summary
    assert notes.training.points[0].losses.keys() == {"loss", "spread"}
    assert len(read_calibration(BEFORE).scores) == results.threshold.calibration_images
    assert notes.held_out >= set(read_calibration(BEFORE).paths)
    assert len(read_examples(BEFORE)) == 3
    export = read_step_report(BEFORE, "export")
    assert export is not None
    assert export.facts is not None
    assert export.facts.costs is not None
    assert export.facts.costs.bundle_mib > 1
    assert Summary.model_validate(json.loads((BEFORE / "summary.json").read_text())).verdict == results.verdict


def test_examples_written_before_are_written_again_byte_for_byte(tmp_path: Path) -> None:
    write_examples(tmp_path, read_examples(BEFORE))
    assert (tmp_path / EXAMPLES).read_bytes() == (BEFORE / EXAMPLES).read_bytes()


def row(**changes: Any) -> TrialRow:
    values = {"trial": "1", "category": "cap", "method": "padim", "label": "padim", "reason": "", "run_id": "r"}
    return TrialRow(**{**values, "complete": True, "fingerprint": "f", "figures": Figures(recall=0.5), **changes})


@pytest.mark.parametrize(
    "record",
    [
        example_results(),
        example_results(tracking=TrackedAt(uri="u", experiment="e", run_id="r")),
        example_results(histogram=Histogram.of([], []), roc=(), metrics=metrics(classifier_accuracy=0.5)),
        CalibrationRecord(
            kind="seen",
            folds=None,
            images=(CalibrationImage(path="a.png", score=1.0, map_max=2.0, map_median=0.5),),
        ),
        StepReport(step="train", state="running"),
        StepReport(step="train", state="failed", error="no", exit_code=2, seconds=1.0, peak_mib=2.0, outputs={}),
        ComparisonRecord(trials=(row(), row(run_dir="d", exit_code=0, finished_before=False)), failed=0, means={}),
        ComparisonRecord(trials=(), failed=0, means={"padim": MeanFigures(trials=2, aupro=0.5)}, page="p"),
    ],
    ids=lambda record: type(record).__name__,
)
def test_what_is_written_is_read_back(record: FileRecord, tmp_path: Path) -> None:
    write_record(tmp_path / "a.json", record)
    assert read_record(type(record), tmp_path / "a.json") == record


def test_keys_that_have_nothing_to_say_are_left_out() -> None:
    assert "tracking" not in example_results().values()
    assert "classifier_accuracy" not in example_results().values()["metrics"]
    assert example_results().values()["training"] == {}
    assert StepReport(step="a", state="running").values() == {"format": "vqi-step/1", "step": "a", "state": "running"}


def damage(kind: str, value: dict[str, Any], key: str) -> None:
    """Change one key of a record: an unknown one beside it, none, or one of another type."""
    *path, last = key.split(".")
    for part in path:
        value = value[int(part)] if isinstance(value, list) else value[part]
    if kind == "unknown":
        value["colour"] = 1
    elif kind == "missing":
        del value[last]
    else:
        value[last] = {"wrong": "type"}


@pytest.mark.parametrize("kind", ["unknown", "missing", "type"])
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("results.json", "seed"),
        ("results.json", "precision"),
        ("results.json", "metrics.image_auroc"),
        ("results.json", "metrics.confusion.true_positive"),
        ("results.json", "verdict.choices.0.confusion.true_negative"),
        ("results.json", "training.stopped"),
        ("network.json", "weights.kind"),
        ("network.json", "input_size"),
        ("index.json", "network_sha256"),
        ("calibration.json", "kind"),
        ("calibration.json", "images.3.score"),
        ("export.json", "state"),
    ],
)
def test_a_damaged_file_is_one_sentence_that_names_it_and_the_key(
    name: str, key: str, kind: str, tmp_path: Path
) -> None:
    value = json.loads((BEFORE / name).read_text())
    damage(kind, value, key)
    (tmp_path / name).write_text(json.dumps(value))
    with pytest.raises(BadInput) as caught:
        read_record(KINDS[name], tmp_path / name)
    sentence = str(caught.value)
    if kind == "unknown":
        key = ".".join([*key.split(".")[:-1], "colour"])
    what = {"unknown": f"{key} is not a key", "missing": f"{key} is missing", "type": f"{key} is {{'wrong': 'type'}}"}
    assert sentence.startswith(f"{tmp_path / name} cannot be read: {what[kind]}")
    assert sentence.endswith(f"; {KINDS[name].remedy}.")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "it is not JSON"),
        ("", "it is not JSON"),
        ("[]", "has format None, this version reads 'vqi-results/1'"),
        ('{"format": "vqi-results/9"}', "has format 'vqi-results/9', this version reads 'vqi-results/1'"),
        (b"\xff\xfe", "cannot be read (UnicodeDecodeError)"),
        (None, "is missing"),
    ],
)
def test_what_is_no_record_is_refused(content: str | bytes | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / RESULTS).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInput, match=re.escape(words)) as caught:
        read_results(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / RESULTS))
    assert str(caught.value).endswith("; evaluate again.")


def test_a_long_value_is_cut() -> None:
    value = json.loads((BEFORE / RESULTS).read_text()) | {"metrics": list(range(10_000))}
    with pytest.raises(BadInput) as caught:
        parse_results(json.dumps(value))
    assert len(str(caught.value)) < 300


def test_what_is_not_a_number_is_read_where_it_was_and_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_results(tmp_path, example_results(mean_scores={"good": math.nan}))
    assert not (tmp_path / RESULTS).exists()
    write_results(tmp_path, example_results(mean_scores={"good": 1.5}))
    text = (tmp_path / RESULTS).read_text().replace('"good": 1.5', '"good": NaN')
    assert math.isnan(parse_results(text).mean_scores["good"])


def test_notes_of_something_else_are_refused() -> None:
    network = read_network(BEFORE)
    with pytest.raises(BadInput, match=r"network\.json, notes, cannot be read: dataset is missing; run train again"):
        notes_of(network.model_copy(update={"notes": {"geometry": "as given"}}), BEFORE)


def test_records_do_not_change() -> None:
    for change in (
        lambda: setattr(example_results(), "seed", 1),
        lambda: setattr(counts(), "good", 1),
        lambda: setattr(threshold(), "image", 1.0),
    ):
        with pytest.raises(ValueError, match="frozen"):
            change()


def every_kind(kind: type[BaseModel] = Record) -> set[type[BaseModel]]:
    return {kind}.union(*(every_kind(each) for each in kind.__subclasses__()))


def test_every_record_is_strict_and_frozen_and_every_file_has_a_format_of_its_own() -> None:
    kinds = every_kind()
    assert {Results, NetworkNotes, TeacherRecord, Summary} <= kinds
    for kind in kinds:
        assert kind.model_config.get("strict"), kind
        assert kind.model_config.get("frozen"), kind
        assert kind.model_config.get("extra") in ("forbid", "allow"), kind
    files = [kind for kind in kinds if issubclass(kind, FileRecord) and kind is not FileRecord]
    assert len({kind.format_name for kind in files}) == len(files)


# The module that owns each file, and what alone may name it.
OWNERS = {
    "results.json": "vqi/evaluation/records.py",
    "examples.json": "vqi/evaluation/records.py",
    "calibration.json": "vqi/evaluation/calibration.py",
    "network.json": "vqi/detectors/storage.py",
    "index.json": "vqi/detectors/storage.py",
    "comparison.json": "vqi/steps/compare/comparison.py",
    "trials.json": "vqi/tracking/comparisons.py",
    "predictions.json": "vqi/deployment/prediction_record.py",
    "bundle.json": "vqi/deployment/bundle_files.py",
    "tracked.safetensors": "vqi/training/record.py",
}


def texts(path: Path) -> set[str]:
    """The texts of a module that are no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and node.body
                  and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    }


def test_a_file_s_name_and_format_stand_with_its_owner_alone() -> None:
    formats = {kind.format_name for kind in every_kind() if issubclass(kind, FileRecord) and kind is not FileRecord}
    modules: dict[str, set[str]] = {}
    for folder in (ROOT / "components", ROOT / "pipelines"):
        for path in folder.rglob("*.py"):
            for text in texts(path) & (set(OWNERS) | formats):
                modules.setdefault(text, set()).add(path.relative_to(folder).as_posix())
    assert {name: modules[name] for name in OWNERS} == {name: {owner} for name, owner in OWNERS.items()}
    assert all(len(modules[form]) == 1 for form in formats)


def test_reading_checks_a_hundred_thousand_rows_in_seconds() -> None:
    """Not a measurement: what grows with the number of photographs must not grow with its square."""
    image = json.loads((BEFORE / "calibration.json").read_text())["images"][0]
    text = json.dumps({"kind": "split", "folds": None, "parts": 1, "images": [image] * 100_000})
    started = time.process_time()
    assert len(parse_record(CalibrationRecord, text, "calibration.json").images) == 100_000
    assert time.process_time() - started < 20
