"""Running train_category on this machine through kfp.local: the same components, folders instead of a store."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from pydantic import Field

from vqi.category import Category
from vqi.evaluation.records import Metrics, Verdict, read_results
from vqi.evaluation.thresholds import Threshold
from vqi.placement import ALL_STEPS, COMPACT_STEPS, STEPS, steps_of_run
from vqi.platform.errors import BadInput, GateRefused, RunFailed, VqiError
from vqi.platform.files import whole_folder, write_json
from vqi.platform.logs import variables_of_children
from vqi.platform.printing import printable
from vqi.platform.records import Items, Record
from vqi.platform.system_errors import system_error
from vqi.steps.build_index.features import VARIABLE as FEATURES
from vqi.steps.configure.step import part_settings
from vqi.steps.reports import REPORTS, StepReport, read_step_report
from vqi.steps.warm_client import FOLDER
from vqi.storage.weights import WeightsOrigin
from vqi.tracking.runs import check_tracking
from vqi_pipelines.compiling import pipeline_of
from vqi_pipelines.docker_runner import check_engine, docker_runner, end_containers
from vqi_pipelines.warm_steps import warm_steps

Runner = Literal["subprocess", "docker"]


class Summary(Record):
    """What a local run left behind, `summary.json` and what `vqi run --json` prints. Paths are absolute; `seconds` and
    `peak_mib` are by step. What a step that did not run would have left is empty."""

    name: str
    run_dir: str
    report: str = ""
    bundle: str = ""
    check_page: str = ""
    fingerprint: str = ""
    verdict: Verdict | None = None
    metrics: Metrics | None = None
    threshold: Threshold | None = None
    weights: WeightsOrigin | None = None
    notes: Items[str] = ()
    seconds: dict[str, float] = Field(default_factory=dict)
    peak_mib: dict[str, float] = Field(default_factory=dict)
    tracking_uri: str = ""

    def to_json(self) -> str:
        return json.dumps(self.values(), indent=2, allow_nan=False)


def run_category(
    category: Category,
    out: Path,
    report: Callable[[str], None],
    runner: Runner = "subprocess",
    isolated: bool = False,
    compact: bool = False,
) -> Summary:
    """Run the DAG of one category under a new folder of `out`; `report` gets each line that a person should see.

    `runner` says what a step is: a process of this environment, or a container of its image. Processes are forked from
    one that has imported what steps need; an `isolated` one begins with nothing. With `compact` the tasks are those of
    the compact form.

    Raises what the step that failed raised (BadInput, GateRefused, RunFailed), with its own sentence.
    """
    if not category.data.source:
        raise BadInput(
            "data.source is empty; name a folder, an archive or s3://bucket/prefix, for example with --set "
            "data.source=FOLDER."
        )
    if category.training.nodes > 1:
        raise BadInput(
            f"train.nodes is {category.training.nodes}, and a local run has one machine; leave it at 1 "
            "(train.processes trains in several processes of it)."
        )
    pipeline = pipeline_of(category, compact)
    if runner == "docker":
        check_engine(("configure", *COMPACT_STEPS) if compact else STEPS)
    parameters = category.parameters()
    if "://" not in category.data.source:
        parameters["data_source"] = _resolve_existing("data.source", category.data.source)
    weights = category.backbone.weights
    if weights not in ("imagenet", "random") and "://" not in weights:
        parameters["backbone_weights"] = _resolve_existing("backbone.weights", weights)
    method_paths = {
        name: _resolve_existing(f"method.settings.{name}", path) for name, path in category.method_paths.items()
    }
    parameters["method_settings"] = json.dumps({**category.method.settings, **method_paths}, sort_keys=True)
    out = Path(out).resolve()
    run_dir = _new_run_folder(out, category.name)
    reports, steps = run_dir / "steps", steps_of_run(category.compute.shards, category.promote.step == "yes")
    reports.mkdir()
    if not category.tracking.uri and not os.environ.get("MLFLOW_TRACKING_URI"):
        parameters["tracking_uri"] = f"sqlite:///{out / 'mlflow.db'}"
    parameters["tracking_uri"] = _absolute(str(parameters["tracking_uri"]))
    own_checkpoints = category.train.checkpoints
    if own_checkpoints and "://" not in own_checkpoints:
        parameters["train_checkpoints"] = str(Path(own_checkpoints).expanduser().absolute())
    elif not own_checkpoints:
        # Beside the runs, not in one: a run that was interrupted is taken up by the next of the same category.
        parameters["train_checkpoints"] = str(out / "checkpoints")
    variables = {REPORTS: str(reports), "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore", **variables_of_children()}
    with ExitStack() as around:
        # The processes import while this one does.
        log = around.enter_context(open(run_dir / "run.log", "a"))
        if runner == "subprocess" and not os.environ.get(FEATURES):
            # Beside the runs, as checkpoints are.
            variables[FEATURES] = str(out / "features")
        if runner == "subprocess" and not isolated:
            variables |= around.enter_context(warm_steps({**os.environ, **variables}, log))
        # In images MLflow's own are used, and `configure` asks there whether the server answers; a comparison was begun
        # at its address already.
        if runner == "subprocess" and not category.tracking.comparison:
            try:
                check_tracking(str(parameters["tracking_uri"]), category.tracking.experiment)
            except VqiError:
                shutil.rmtree(run_dir, ignore_errors=True)
                raise
        write_json(run_dir / "parameters.json", parameters)
        report(f"Running {category.name} ({category.method.name}, {category.backbone.name}) in {run_dir}")
        started = time.monotonic()
        try:
            _run_pipeline(pipeline, parameters, run_dir, variables, _Console(log, report), runner)
        except RuntimeError as error:
            failure = _failure(reports, run_dir, steps, re.sub(r"\x1b\[\d+m", "", str(error)).rstrip("."))
            if isinstance(failure, GateRefused):
                summarise(category.name, run_dir)  # a refused candidate has a report and a bundle
            raise failure from error
    # kfp takes a container that was gone before kfp could read its state for one that succeeded.
    states = [ended.state if (ended := read_step_report(reports, step)) else None for step in steps]
    if any(state != "succeeded" for state in states):
        raise _failure(reports, run_dir, steps, "its container vanished")
    if not own_checkpoints:
        _forget_checkpoints(out / "checkpoints", read_step_report(reports, "train"))
    summary = summarise(category.name, run_dir)
    total = {"total": round(time.monotonic() - started, 3)}
    tracking_uri = str(parameters["tracking_uri"] or os.environ.get("MLFLOW_TRACKING_URI", ""))
    summary = summary.model_copy(update={"tracking_uri": tracking_uri, "seconds": summary.seconds | total})
    write_json(run_dir / "summary.json", summary.values())
    return summary


def summarise(name: str, run_dir: Path) -> Summary:
    """Collect a run's summary from its steps' reports, and put the report and the bundle at the top of the run's
    folder."""
    reports = {step: report for step in ALL_STEPS if (report := read_step_report(run_dir / "steps", step))}
    outputs: dict[str, str] = {}
    for report in reports.values():
        outputs |= report.outputs or {}
    results = read_results(Path(outputs["evaluation"])) if "evaluation" in outputs else None
    ingested = reports.get("ingest")
    return Summary(
        name=name,
        run_dir=str(run_dir),
        report=_link(run_dir / "report.html", outputs.get("report")),
        bundle=_link(run_dir / "bundle", outputs.get("bundle")),
        check_page=_link(run_dir / "dataset-check.html", outputs.get("dataset_page")),
        fingerprint=(ingested.facts.fingerprint or "") if ingested and ingested.facts else "",
        verdict=results.verdict if results else None,
        metrics=results.metrics if results else None,
        threshold=results.threshold if results else None,
        weights=results.weights if results else None,
        notes=results.notes if results else (),
        seconds={step: report.seconds for step, report in reports.items() if report.seconds is not None},
        peak_mib={step: report.peak_mib for step, report in reports.items() if report.peak_mib is not None},
    )


def _forget_checkpoints(folder: Path, train: StepReport | None) -> None:
    """Remove the checkpoints of a complete training where the category does not keep them."""
    kept = Path((train.facts.checkpoints if train and train.facts else None) or folder / "none")
    if kept.parent == folder:
        shutil.rmtree(kept, ignore_errors=True)
    with contextlib.suppress(OSError):  # other trainings are under way, or there was none
        folder.rmdir()


def _resolve_existing(key: str, path: str) -> str:
    """The absolute path of something local that a run needs. Raises BadInput where it does not exist."""
    absolute = Path(path).expanduser().resolve()
    if not absolute.exists():
        raise BadInput(f"{key} is {path!r}, which does not exist; name what is there, or an s3:// address.")
    return str(absolute)


def _new_run_folder(out: Path, name: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for attempt in range(100):
        run_dir = out / (f"{name}-{stamp}" + (f"-{attempt + 1}" if attempt else ""))
        try:
            run_dir.mkdir(parents=True)
            return run_dir
        except FileExistsError:
            if not out.is_dir():
                break
        except OSError as error:
            raise system_error(error) from error
    raise BadInput(f"--out {out} is not a folder that runs can be kept in; choose another.")


def _absolute(tracking_uri: str) -> str:
    """A sqlite file named from this folder means the same file wherever a step runs."""
    kind, separator, file = tracking_uri.partition("sqlite:///")
    return f"{separator}{Path(file).absolute()}" if not kind and file else tracking_uri


def _link(link: Path, target: str | None) -> str:
    """Show an output at the top of the run's folder, as a file or folder of its own with hard links to the same bytes.

    A symbolic link is copied as a link by `cp -r`, tar and rsync, and points nowhere then; and KFP's artefacts have no
    ending, so that a browser that follows one to a page shows its source.
    """
    if not target or not Path(target).exists():
        return ""
    if not os.path.lexists(link):
        if Path(target).is_dir():
            with whole_folder(link) as folder:
                shutil.copytree(target, folder, copy_function=_link_file, dirs_exist_ok=True)
        else:
            _link_file(target, link)
    return str(link)


def _link_file(source: str | Path, destination: str | Path) -> None:
    try:
        os.link(source, destination)
    except OSError:  # a file system without hard links, or a container's file that is not ours to link
        shutil.copyfile(source, destination)


def _failure(reports: Path, run_dir: Path, steps: Sequence[str], reason: str) -> VqiError:
    """The error of the one of `steps` that did not succeed, in that step's own sentence; `reason` is kfp's."""
    for step in steps:
        report = read_step_report(reports, step)
        if report is None:
            return RunFailed(f"{step} never began ({reason}); the log is {run_dir / 'run.log'}.")
        if report.state == "failed":
            kind = {2: BadInput, 3: GateRefused}.get(report.exit_code or 1, RunFailed)
            sentence, page = report.error or "", (report.outputs or {}).get("dataset_page", "")
            if shown := _link(run_dir / "dataset-check.html", page):
                sentence = sentence.replace(page, shown) if page in sentence else f"{sentence} See {shown}."
            return kind(printable(f"{step}: {sentence}"))
        if report.state == "running":
            return RunFailed(
                f"{step} was killed before it could say why (out of memory?); its log is {run_dir / 'run.log'}."
            )
    return RunFailed(f"The run failed after its last step ({reason}); its log is {run_dir / 'run.log'}.")


def _run_pipeline(
    name: str,
    parameters: dict[str, Any],
    run_dir: Path,
    variables: dict[str, str],
    console: _Console,
    runner: Runner,
) -> None:
    with ExitStack() as around, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kfp import local

        from vqi_pipelines.compiling import load_pipeline
        from vqi_pipelines.local_pipeline import local_pipeline

        if runner == "docker":
            chosen = docker_runner(parameters, run_dir, variables)
            around.enter_context(end_containers(run_dir))
        else:
            chosen = local.SubprocessRunner(use_venv=False)
            # kfp's commands begin with a `mktemp -d` that they never remove.
            passing = around.enter_context(tempfile.TemporaryDirectory(prefix="vqi-run-", ignore_cleanup_errors=True))
            around.enter_context(_environment({**variables, "TMPDIR": passing}))
        artifacts = run_dir / "artifacts"
        artifacts.mkdir()  # a Docker engine would make it as root
        local.init(chosen, pipeline_root=str(artifacts), raise_on_error=True)
        category = Category.from_parameters(parameters)
        pipeline = load_pipeline(name)
        known = inspect.signature(pipeline.pipeline_func).parameters
        values = {name: parameters[name] for name in known}
        with redirect_stdout(console):
            local_pipeline(pipeline, part_settings(category), warm=FOLDER in variables)(**values)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    # The steps run as `python3`: it must be the interpreter that carries the package, first on the PATH.
    path = os.environ.get("PATH", "")
    os.environ.update(values, PATH=f"{Path(sys.executable).parent}{os.pathsep}{path}")
    try:
        yield
    finally:
        os.environ["PATH"] = path
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


class _Console(io.TextIOBase):
    """Standard output of kfp.local: all of it to the log, and the steps' own lines to the person.

    kfp indents what a step prints, after the step's whole input as JSON and before a listing of its outputs; neither is
    worth reading. A step's last word (`vqi STEP: ...`) waits until kfp has called the step a success: a failure's is
    the error that ends the run.
    """

    def __init__(self, log: TextIO, report: Callable[[str], None]) -> None:
        self.log, self.report = log, report
        self.line, self.in_step, self.in_input = "", False, False
        self.step, self.last_word = "", list[str]()

    def write(self, text: str) -> int:
        self.log.write(text)
        self.log.flush()
        *lines, self.line = (self.line + text).split("\n")
        for line in lines:
            self._show(line)
        return len(text)

    def _show(self, line: str) -> None:
        started = re.search(r"Executing task .*'([a-z-]+)'", line)
        if started:
            self.in_step, self.step, self.last_word = True, started[1].replace("-", "_"), []
            self.report(f"{self.step} ...")
        elif " finished with status " in line:
            for last_line in self.last_word if self.in_step and "SUCCESS" in line else ():
                self.report(last_line)
            self.in_step = False
        elif "[KFP Executor" in line:
            self.in_input = "Got executor_input" in line
        elif self.in_step and line.startswith("    "):
            body = line[4:].rstrip()
            self.in_input = self.in_input and (not body or body[0] in ' {}[]"')
            if body and not self.in_input:
                self._show_step_line(printable(body.strip()))

    def _show_step_line(self, line: str) -> None:
        if self.last_word or line.startswith(f"vqi {self.step}: "):
            self.last_word.append(f"  {line}")
        else:
            self.report(f"  {line}")
