"""compare: what trials left in MLflow, side by side."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from example_results import counts, example_results, metrics
from vqi.evaluation.charts import line_style
from vqi.evaluation.collector import compared_photographs
from vqi.evaluation.records import ComparedPhotograph, Results, parse_examples, write_examples, write_results
from vqi.pages.page import data_uri
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.records import parse_record
from vqi.steps.compare.comparison import ComparisonRecord, Figures
from vqi.steps.compare.failures import trial_failures
from vqi.steps.compare.page import comparison_page
from vqi.steps.compare.step import NOT_EVALUATED, NOT_EXPORTED, compare, explain, flat_metrics, gather, summarise
from vqi.steps.compare.table import comparison_table
from vqi.steps.compare.trial_result import Costs, TrialResult, best, method_means
from vqi.steps.plan_trials.step import plan_trials
from vqi.steps.reports import ClusterTask, StepReport
from vqi.tracking.comparisons import Comparison, PlannedTrial, TrialRun, trial_tags
from vqi.tracking.runs import add_to_run, track_run

HOSTILE = "<script>alert(1)</script>\x1b[2J"


def results(auroc: float) -> Results:
    return example_results(
        dataset_fingerprint="f" * 64,
        metrics=metrics(image_auroc=auroc, pixel_auroc=None, aupro=None, recall=0.5, false_reject_rate=0.0),
        roc=((0.0, 0.0, 3.0), (0.0, auroc, 2.0), (1.0, 1.0, 1.0)),
        counts=counts(good=4, defect=6),
    )


def example(path: str = "test/hole/0.png") -> ComparedPhotograph:
    picture = str(data_uri(np.zeros((8, 8, 3), np.uint8)))
    return ComparedPhotograph(
        path=path, label="defect", defect="hole", decision="defect", score=1.0, photograph=picture, heatmap=picture
    )


def trial_result(category: str, label: str, auroc: float, **changes: Any) -> TrialResult:
    values = {
        "results": results(auroc),
        "costs": Costs(latency_ms=20.0, bundle_mib=5.0, seconds=11.0),
        "examples": (example(),),
    }
    return TrialResult(changes.pop("trial", "1"), category, label, label, **{**values, **changes})


def test_means_are_over_what_was_measured() -> None:
    trials = [
        trial_result("cap", "a", 0.8),
        trial_result("cap", "b", 0.9),
        trial_result("nut", "a", 0.6),
        trial_result("nut", "b", 0.0, results=None, reason="gone"),
    ]
    means = method_means(trials)
    assert [(label, mean.trials) for label, mean in means.items()] == [("a", 2), ("b", 1)]
    assert means["a"].image_auroc == pytest.approx(0.7)
    assert means["a"].seconds == 11.0
    assert means["a"].aupro is None
    assert "aupro" not in means["a"].values()
    flat = flat_metrics(summarise(trials))
    assert flat["a/image_auroc"] == pytest.approx(0.7)
    # As KFP sorts them, in the order of the table.
    assert [name for name in sorted(flat_metrics(summarise(trials), numbered=True)) if name.startswith("a/")][:2] == [
        "a/1_image_auroc",
        "a/4_recall",
    ]
    assert (flat["trials"], flat["failed"]) == (4, 1)
    assert "a/aupro" not in flat


def test_the_best_is_the_largest_or_the_smallest_and_none_where_all_are_shown_alike() -> None:
    rows = [Figures(image_auroc=0.8, latency_ms=20.0), Figures(image_auroc=0.9, latency_ms=30.0), Figures()]
    assert (best(rows, "image_auroc"), best(rows, "latency_ms")) == ("0.9000", "20")
    assert best(rows[:1], "image_auroc") == ""
    assert best([Figures(image_auroc=0.8), Figures(image_auroc=0.80000001)], "image_auroc") == ""


def test_a_method_has_one_colour_in_every_category() -> None:
    page = comparison_page(
        "t", [trial_result("cap", "a", 0.8), trial_result("cap", "b", 0.9), trial_result("nut", "b", 0.7)]
    )
    cap, nut = page.split("<h2>cap</h2>")[1].split("<h2>nut</h2>")
    (second,) = re.findall(r'stroke="(#\w+)" stroke-width="2.2"', nut)
    assert re.findall(r'stroke="(#\w+)" stroke-width="2.2"', cap)[1] == second
    assert line_style(7) == (line_style(0)[0], True)


def test_the_page_shows_every_trial_and_what_is_missing() -> None:
    lost = trial_result("nut", "padim", 0.5, results=None, reason="its source is empty")
    trials = [trial_result("cap", "padim", 0.8), trial_result("cap", "patchcore", 0.9), lost]
    assert "not over the same categories" not in comparison_page("Comparison", trials)
    trials.append(trial_result("nut", "patchcore", 0.85))
    page = comparison_page("Comparison", trials)
    assert "3 of 4 runs are complete" in page
    assert "trial 1, nut, padim: its source is empty" in page
    assert "not over the same categories" in page
    # Two curves in one chart, and the photograph once for both methods.
    cap = page.split("<h2>cap</h2>")[1].split("<h2>nut</h2>")[0]
    assert cap.count('stroke-width="2.2"') == 2
    assert cap.count("heatmap of") == 2
    assert cap.count("photograph: hole") == 1
    assert '<td class="number best">0.9000</td>' in page
    assert '<td class="number best">0.8000</td>' not in cap
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_nothing_that_was_stored_gets_into_the_page_unescaped() -> None:
    trials = [trial_result(HOSTILE, HOSTILE, 0.8, reason=HOSTILE, examples=(example(HOSTILE),))]
    page = comparison_page(HOSTILE, trials)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in comparison_table(trials)


def test_a_picture_that_is_none_is_refused(tmp_path: Path) -> None:
    forged = {**example().values(), "heatmap": 'data:image/webp;base64,AA" onload="x'}
    with pytest.raises(BadInput, match=r"examples\.json cannot be read: photographs\.0\.heatmap is"):
        parse_examples(json.dumps([forged]))


def test_costs_that_are_not_finite_are_not_known() -> None:
    odd = trial_result("cap", "m", 0.8, costs=Costs(latency_ms=float("nan"), seconds=float("inf")), examples=())
    assert (odd.figures.latency_ms, odd.figures.seconds, odd.figures.image_auroc) == (None, None, 0.8)
    comparison_page("t", [odd])


def logged(uri: str, comparison: str, folder: Path, auroc: float) -> str:
    folder.mkdir()
    write_results(folder, results(auroc))
    write_examples(folder, [example()])
    run_id = track_run(
        uri=uri, experiment="vqi", run_name="trial", parameters={}, metrics={"image_auroc": auroc},
        tags=trial_tags(comparison),
        artifacts=[folder / "results.json", folder / "examples.json"],
    )  # fmt: skip
    assert run_id
    return run_id


@pytest.mark.slow
def test_trials_are_gathered_from_mlflow_and_the_missing_ones_are_listed(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    categories = json.dumps([{"name": name, "data_source": f"s3://photos/{name}"} for name in ("cap", "nut", "pin")])
    items = plan_trials(
        categories=categories,
        methods="",
        common="{}",
        pool="any",
        tracking_uri=uri,
        experiment="vqi",
        key="run1",
        name="n",
    )
    marks = [item["trial_tracking_comparison"] for item in items]
    first = logged(uri, marks[0], tmp_path / "first", 0.9)
    add_to_run(uri, first, {"latency_ms": 12.5, "bundle_mib": 3.25})
    logged(uri, marks[1], tmp_path / "second", 0.7)

    record = compare(key="run1", tracking_uri=uri, experiment="vqi", page=tmp_path / "page")

    cap, nut, pin = record.trials
    assert cap.complete
    assert cap.figures.latency_ms == 12.5
    assert cap.run_id == first
    assert (nut.complete, nut.reason) == (False, NOT_EXPORTED)
    assert (pin.complete, pin.reason) == (False, NOT_EVALUATED)
    assert record.failed == 2
    assert record.means["patchcore"].image_auroc == pytest.approx(0.8)
    assert "1 of 3 runs are complete" in (tmp_path / "page").read_text()
    # The parent run says the same, and is not a success.
    comparison = Comparison.find(uri, "vqi", "run1")
    assert comparison is not None
    stored = comparison.read_text(comparison.run_id, "comparison.json")
    assert stored is not None
    assert parse_record(ComparisonRecord, stored, "comparison.json") == record
    from mlflow.tracking import MlflowClient

    parent = MlflowClient(tracking_uri=uri).get_run(comparison.run_id)
    assert parent.info.status == "FAILED"
    assert parent.data.metrics["failed"] == 2


class Keyed(Comparison):
    """A comparison of one trial with a key, under which `runs` are known."""

    def __init__(self, *runs: TrialRun) -> None:
        self.runs, self.adopted = runs, ""

    def trial_runs(self) -> dict[str, TrialRun]:
        return {}

    def runs_of_key(self, key: str) -> list[TrialRun]:
        return [run for run in self.runs if key == "a"]

    def adopt(self, run_id: str, trial: str) -> None:
        self.adopted = f"{run_id} as {trial}"

    def read_text(self, run_id: str, name: str) -> str | None:
        return json.dumps(results(0.9).values()) if name == "results.json" else None


def test_a_trial_from_the_cache_is_what_another_run_made_of_it() -> None:
    planned = [PlannedTrial(trial="2", category="cap", method="padim", label="padim", key="a")]
    made = {"bundle_mib": 1.0}
    earlier, incomplete, own = (
        TrialRun("r1", "7", made, "one"),
        TrialRun("r0", "7", {}, "one"),
        TrialRun("r2", "", {}, "k"),
    )

    comparison = Keyed(incomplete, earlier)
    (trial,) = gather(comparison, planned, "k")
    assert (trial.trial, trial.complete, trial.run_id) == ("2", True, "r1")
    assert comparison.adopted == "r1 as 2"
    # One that began here did not come from the cache: what others made of it says nothing.
    (trial,) = gather(Keyed(earlier), planned, "k", {"2"})
    assert trial.reason == NOT_EVALUATED
    (trial,) = gather(Keyed(earlier, own), planned, "k", {"2"})
    assert (trial.run_id, trial.reason) == ("r2", NOT_EXPORTED)


@pytest.mark.slow
def test_the_runs_of_a_key_are_found_in_mlflow_and_become_trials_of_the_next_comparison(tmp_path: Path) -> None:
    uri, key = f"sqlite:///{tmp_path / 'mlflow.db'}", "a" * 32
    run_id = logged(uri, key, tmp_path / "made", 0.75)
    add_to_run(uri, run_id, {"bundle_mib": 1.0})
    for name in ("first", "second"):
        comparison = Comparison.begin(uri, "vqi", name, name)
        planned = PlannedTrial(trial="1", category="cap", method="padim", label="padim", key=key)
        comparison.write_trials([planned])
        (trial,) = compare(key=name, tracking_uri=uri, experiment="vqi", page=tmp_path / name).trials
        assert (trial.complete, trial.run_id) == (True, run_id)
        assert comparison.trial_runs()["1"].run_id == run_id


@pytest.mark.slow
def test_a_trial_that_was_run_again_counts_once_with_its_latest_run(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    comparison = Comparison.begin(uri, "vqi", "n", "k")
    comparison.write_trials([PlannedTrial(trial="1", category="cap", method="padim", label="padim")])
    for number, auroc in enumerate((0.5, 0.75)):
        add_to_run(uri, logged(uri, f"{comparison.run_id}/1", tmp_path / str(number), auroc), {"bundle_mib": 1.0})
    (trial,) = compare(key="k", tracking_uri=uri, experiment="vqi", page=tmp_path / "page").trials
    assert trial.figures.image_auroc == 0.75


class Stored(Comparison):
    """A comparison of one trial, whose run stored `files`."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def trial_runs(self) -> dict[str, TrialRun]:
        return {"1": TrialRun("r", "1", {"bundle_mib": 1.0, "latency_ms": 2.0})}

    def read_trials(self) -> tuple[PlannedTrial, ...]:
        return (PlannedTrial(trial="1", category="cap", method="padim", label="padim"),)

    def read_text(self, run_id: str, name: str) -> str | None:
        return self.files.get(name)


def gathered(comparison: Comparison) -> list[TrialResult]:
    return gather(comparison, comparison.read_trials(), "k")


def test_results_that_cannot_be_read_are_listed_with_the_reason() -> None:
    (trial,) = gathered(Stored({"results.json": '{"format": "vqi-results/9"}'}))
    assert not trial.complete
    assert trial.reason == (
        "results.json has format 'vqi-results/9', this version reads 'vqi-results/1'; evaluate again"
    )
    assert "vqi-results/9" in comparison_page("t", [trial])
    assert "vqi-results/9" in comparison_table([trial])


def test_pictures_that_cannot_be_read_are_not_shown_and_the_numbers_count(capsys: pytest.CaptureFixture[str]) -> None:
    stored = json.dumps(results(0.9).values())
    (trial,) = gathered(Stored({"results.json": stored, "examples.json": '[{"path": 1}]'}))
    assert trial.complete
    assert (trial.figures.image_auroc, trial.figures.latency_ms, trial.examples) == (0.9, 2.0, ())
    assert "examples.json cannot be read" in capsys.readouterr().err


def reported(trial: int, step: str, state: str, began: int, **values: Any) -> StepReport:
    """A step's report from iteration `trial` of the loop, as Argo names its node."""
    dag = f"x(0).root(0).for-loop-1(0).iteration-iterations({trial}:{trial})(0).iteration-item(0).train-category(0)"
    task = ClusterTask(
        run="r",
        pod=f"p{began}",
        began=f"2026-11-28T20:00:{began:02}",
        node=f"{dag}.{step.replace('_', '-')}(0).executor({values.pop('attempt', 0)})",
        comparison=values.pop("comparison", f"abc/{trial + 1}" if step in ("configure", "evaluate") else None),
        memory_limit=values.pop("memory_limit", None),
    )
    return StepReport(step=step, state=state, task=task, **values)  # type: ignore[arg-type]


def test_why_a_trial_failed_comes_from_the_last_report_of_its_own_steps() -> None:
    gib = {"memory_limit": 4 << 30}
    failures = trial_failures(
        [
            reported(0, "train", "failed", 20, error="the loss is not finite.", exit_code=1),
            reported(0, "configure", "succeeded", 1),
            reported(1, "configure", "succeeded", 2),
            # Later than the first trial's, and not the last of its own.
            reported(1, "train", "running", 21, **gib),
            reported(1, "train", "running", 51, attempt=1, **gib),
            reported(2, "configure", "failed", 3, error="data_source is empty.", exit_code=2),
            reported(3, "configure", "succeeded", 4),
            reported(3, "build_index", "succeeded", 30),
            reported(4, "configure", "failed", 5, error="of another comparison.", comparison="other/5"),
            reported(5, "ingest", "failed", 6, error="its trial is not known."),
            StepReport(step="train", state="failed", error="local"),
        ],
        "abc",
    )
    assert failures == {
        "1": "train: the loss is not finite",
        "2": "train was killed 2 times before it could say why, as happens where memory runs out (its limit is 4Gi; "
        "resources.train.memory of the category raises it)",
        "3": "configure: data_source is empty",
        "4": "build_index did its work, and then what it made could not be stored, or the next step could not begin; "
        "the end of its log says more",
    }


def test_the_steps_of_a_compact_trial_are_told_apart_though_they_share_a_task() -> None:
    def of_task(step: str, state: str, began: int, **values: object) -> StepReport:
        report = reported(0, step, state, began, **values)
        assert report.task
        node = f"{report.task.node}".replace(f".{step.replace('_', '-')}(", ".run-trial(")
        return report.model_copy(update={"task": report.task.model_copy(update={"node": node, "pod": "one"})})

    reports = [of_task("configure", "succeeded", 1), of_task("ingest", "succeeded", 2)]
    assert trial_failures([*reports, of_task("check_dataset", "failed", 3, error="two are damaged.")], "abc") == {
        "1": "check_dataset: two are damaged"
    }
    (killed,) = trial_failures([*reports, of_task("train", "running", 4, memory_limit=4 << 30)], "abc").values()
    assert killed.startswith("train was killed before it could say why")
    assert "resources.train.memory" in killed


def test_a_trial_that_is_known_by_its_key_is_told_by_it() -> None:
    reports = [reported(1, "configure", "failed", 1, error="data_source is empty.", comparison="a" * 32)]
    assert trial_failures(reports, "abc", {"a" * 32: "3"}) == {"3": "configure: data_source is empty"}
    assert trial_failures(reports, "abc", {"b" * 32: "3"}) == {}


def test_a_trial_whose_steps_said_nothing_keeps_the_sentence_it_has() -> None:
    lost = trial_result("nut", "padim", 0.5, results=None, reason=NOT_EVALUATED, trial="2")
    unexported = trial_result("cap", "padim", 0.5, reason=NOT_EXPORTED, trial="3")
    complete = trial_result("cap", "dfm", 0.5, trial="1")
    explained = explain([complete, lost, unexported], {"1": "no", "3": "export: the parity is 0.2"})
    assert [trial.reason for trial in explained] == ["", NOT_EVALUATED, f"{NOT_EXPORTED}; export: the parity is 0.2"]
    assert (
        "! trial 3, cap, padim: it was evaluated, but no bundle was exported; export: the parity"
        in comparison_table(explained)
    )


def test_where_nothing_was_planned_the_error_names_the_log(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="the log of plan trials says why"):
        compare(key="k", tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}", experiment="vqi", page=tmp_path / "page")


def test_the_photographs_to_compare_do_not_depend_on_the_method() -> None:
    from vqi.dataset.manifest import Extent, MaskFile, Sample

    def sample(path: str, label: str, defect: str, masked: bool = False) -> Sample:
        nowhere = Extent("", 0, 0)
        return Sample(
            path, "", "test", label, defect, 1, 1, nowhere, masks=(MaskFile("m", "", nowhere),) if masked else ()
        )  # type: ignore[arg-type]

    rows = [sample(f"{kind}/{n}", "defect", kind, masked=n == 1) for kind in ("d", "c", "b", "a") for n in range(3)]
    assert compared_photographs([sample("good/0", "good", "good"), *rows]) == {"a/1", "b/1", "c/1"}
