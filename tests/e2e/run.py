"""The whole path on a cluster that is there: upload, submit, metrics and report, the cache, a pod killed in training, a
schedule, images that are not there, too little memory, comparisons, a store that is away.

    tests/e2e/run.py --host http://localhost:8080 --namespace vqi        (or: make e2e HOST=... NAMESPACE=vqi)

It needs a KUBECONFIG of the cluster, kubectl, a KFP 2.17 server and our manifests in the namespace. Everything it does,
it does by the `vqi` commands that people use; checks go on side by side where one does not disturb another. Where the
store or MLflow are not Services of the namespace, --store and --tracking name addresses that answer from here.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VQI = [sys.executable, "-c", "from vqi_pipelines.command import main; main()"]
STORE_PORT, TRACKING_PORT = 9000, 5000
BUCKET, ARTEFACTS = "vqi", "mlpipeline"
# With the retry that stock KFP adds to every template; 560 kB were measured.
RECORD_BYTES = 575_000
COMPACT_RECORD_BYTES = 300_000
# Where Argo compresses a record, and KFP's API no longer reads the steps in it.
RECORD_LIMIT = 1_000_000
# Longer than KFP's launcher waits for a store.
OUTAGE_SECONDS = 120
# torch's import alone takes more.
TOO_LITTLE = "300Mi"
DOZEN = 12
# What a run of ours leaves in MLflow and what KFP shows must be the same number; killed or not, training must give the
# same one.
COMPARED = ("image_auroc", "pixel_auroc", "threshold")
# A method that learns for a minute, so that there is something to interrupt; random weights need nothing from outside.
SETTINGS = (
    "backbone.weights=random",
    "image.size=128,128",
    "method.name=stfpm",
    "train.max_epochs=30",
    "train.batch_size=8",
)
# What takes seconds, for checks that are not about training; the later of two values for one path counts.
QUICK = ("backbone.name=filterbank", "image.size=64,64")


class CheckFailed(Exception):
    """Something on the cluster is not as it should be; the message is one sentence."""


@dataclass
class Cluster:
    """The cluster under test, and what earlier checks left for later ones."""

    host: str
    namespace: str
    source: str
    pool: str
    experiment: str
    settings: list[str]
    timeout: float
    store: str = ""
    tracking: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    killed_metrics: dict[str, float] = field(default_factory=dict)
    compact_metrics: dict[str, float] = field(default_factory=dict)

    @property
    def changed_source(self) -> str:
        """Photographs that a check changes: the same, in a folder that no other check reads."""
        return f"s3://{BUCKET}/e2e/{self.mark}/changed"

    @property
    def mark(self) -> str:
        """This e2e's own word: in the names of its categories and the keys of its checkpoints."""
        return self.experiment.rpartition("-")[2]

    def vqi(self, *arguments: str, wanted: int = 0, **variables: str) -> str:
        """What a vqi command prints; it must end with the exit code that is wanted. `variables` are added to its
        environment."""
        completed = subprocess.run(
            [*VQI, *arguments],
            env={**os.environ, **self.environment, **{name: value for name, value in variables.items() if value}},
            capture_output=True,
            text=True,
            timeout=self.timeout,
        )
        for line in completed.stderr.splitlines():
            say(f"  {line}")
        if "Traceback" in completed.stderr:
            raise CheckFailed(f"vqi {arguments[0]} printed a traceback.")
        if completed.returncode != wanted:
            raise CheckFailed(
                f"vqi {' '.join(arguments)} ended with {completed.returncode}, not {wanted}: "
                f"{completed.stderr.strip()[-400:]}"
            )
        return completed.stdout if wanted == 0 else completed.stderr

    def reach(self) -> list[str]:
        return ["--host", self.host, "--namespace", self.namespace]

    def category(self, name: str, *more: str) -> list[str]:
        """The options that name a category of this e2e."""
        values = [f"data.source={self.source}", f"tracking.experiment={self.experiment}", *self.settings, *more]
        return [
            "--category",
            f"{name}-{self.mark}",
            "--pool",
            self.pool,
            *(part for value in values for part in ("--set", value)),
        ]

    def start(self, name: str, *more: str, compact: bool = False, image_tag: str = "") -> str:
        """The id of a run that `vqi submit` started; `image_tag`: of images that are not everyone's."""
        options = [*(["--compact"] if compact else []), "--experiment", self.experiment, "--json"]
        started = self.vqi("submit", *self.category(name, *more), *options, *self.reach(), VQI_IMAGE_TAG=image_tag)
        return str(json.loads(started)["run_id"])

    def wait(self, run_id: str) -> dict[str, Any]:
        """A run as it ended well."""
        waited = ["--wait", "--timeout", str(self.timeout), "--json"]
        ended: dict[str, Any] = json.loads(self.vqi("runs", run_id, *waited, *self.reach()))
        return ended

    def submit(self, name: str, *more: str, compact: bool = False) -> dict[str, Any]:
        """A run of `vqi submit --wait`, as it ended well."""
        waited = [
            *(["--compact"] if compact else []),
            "--wait",
            "--timeout",
            str(self.timeout),
            "--experiment",
            self.experiment,
            "--json",
        ]
        submitted: dict[str, Any] = json.loads(self.vqi("submit", *self.category(name, *more), *waited, *self.reach()))
        return submitted

    def compare(self, files: dict[str, str], *more: str, compact: bool = False, wanted: int = 0) -> str:
        """What `vqi submit-all --wait` says of a comparison: its JSON, or its sentences where it is to end otherwise.
        `files` are the texts of category files by the categories' names; all take the QUICK settings."""
        with tempfile.TemporaryDirectory() as folder:
            chosen = []
            for name, text in files.items():
                file = Path(folder) / f"{name}-{self.mark}.yaml"
                file.write_text(f"name: {file.stem}\ndata: {{source: '{self.source}'}}\n{text}", encoding="utf-8")
                chosen += ["--category", str(file)]
            values = (f"tracking.experiment={self.experiment}", *QUICK, *more)
            options = [
                *(part for value in values for part in ("--set", value)),
                "--compact" if compact else "--full",
                *("--wait", "--timeout", str(self.timeout), "--experiment", self.experiment, "--json"),
            ]
            return self.vqi("submit-all", *chosen, "--pool", self.pool, *options, *self.reach(), wanted=wanted)

    def kubectl(self, *arguments: str) -> str:
        completed = subprocess.run(
            ["kubectl", "-n", self.namespace, *arguments], capture_output=True, text=True, timeout=120
        )
        if completed.returncode:
            raise CheckFailed(f"kubectl {' '.join(arguments)} failed: {completed.stderr.strip()[-300:]}")
        return completed.stdout

    def pods(self, run_id: str) -> list[dict[str, Any]]:
        return json.loads(self.kubectl("get", "pods", "-l", f"pipeline/runid={run_id}", "-o", "json"))["items"]

    def api(self, path: str) -> Any:
        """What KFP's API answers to a GET."""
        return _json(f"{self.host.rstrip('/')}{path}")


# ---- the checks
# ----------------------------------------------------------------------------------------------------------------


def refusals(cluster: Cluster) -> str:
    """What is wrong is reported before anything is submitted, in one sentence, with exit code 2."""
    good = cluster.category("refused")
    wrong = {
        "a pool that there is not": [*good, "--pool", "tpu", *cluster.reach()],
        "a server that there is not": [*good, "--host", "http://127.0.0.1:9", "--namespace", cluster.namespace],
        "photographs that there are not": [
            *good,
            "--set",
            f"data.source=s3://{BUCKET}/no/such/{cluster.mark}",
            *cluster.reach(),
        ],
        "a path of this machine": [*good, "--set", "data.source=/photographs", *cluster.reach()],
        "a setting that there is not": [*good, "--set", "method.settings.coreset=1", *cluster.reach()],
    }
    for what, options in wrong.items():
        sentence = cluster.vqi("submit", *options, wanted=2).strip().splitlines()
        if not sentence or not sentence[-1].startswith("vqi: "):
            raise CheckFailed(f"For {what} vqi submit gives no sentence: {sentence}")
    return f"{len(wrong)} mistakes refused"


def uploads(cluster: Cluster) -> str:
    """The packages are uploaded once: the second time they are there already."""
    cluster.vqi("upload", *cluster.reach())
    again = json.loads(cluster.vqi("upload", "--json", *cluster.reach()))
    if any(package["new"] for package in again):
        raise CheckFailed("vqi upload uploaded the same package twice.")
    return ", ".join(f"{package['pipeline']} {package['version']}" for package in again)


def a_run(cluster: Cluster) -> str:
    """A category from the command line to its metrics."""
    cluster.run = cluster.submit("part", *_changed(cluster))
    if not cluster.run["metrics"]:
        raise CheckFailed("vqi submit --wait prints no metrics.")
    if missing := [name for name in COMPARED if name not in cluster.run["metrics"]]:
        raise CheckFailed(f"The metrics of the run lack {' and '.join(missing)}.")
    return f"{cluster.run['name']}: " + ", ".join(
        f"{k} {v:.4f}" for k, v in sorted(cluster.run["metrics"].items()) if k in COMPARED
    )


def light_record(cluster: Cluster) -> str:
    """Argo's record of the run leaves room for retries below 1 MB, where KFP no longer reads its steps."""
    return f"{_record(cluster, cluster.run['run_id'], RECORD_BYTES)} bytes"


def the_compact_form(cluster: Cluster) -> str:
    """Several steps in one task, whose pod is killed in training: the same numbers, and a record that lets a dozen
    trials into one."""
    run_id = cluster.start("part", f"train.checkpoints={_checkpoints(cluster, 'compact')}", compact=True)
    killed, again = _kill_in_training(cluster, run_id, "make-bundle")
    ended = cluster.wait(run_id)
    if sorted(ended["steps"]) != ["configure", "make-bundle", "prepare"]:
        raise CheckFailed(f"The compact form ran {', '.join(ended['steps'])}.")
    again()
    cluster.compact_metrics = ended["metrics"]
    return f"{killed} deleted, {_record(cluster, run_id, COMPACT_RECORD_BYTES)} bytes"


def the_same_numbers(cluster: Cluster) -> str:
    """Full form and compact form, killed in training or not: the same metrics."""
    for form, metrics in (("compact form", cluster.compact_metrics), ("full form", cluster.killed_metrics)):
        for name in COMPARED:
            whole, after = cluster.run["metrics"].get(name), metrics.get(name)
            if whole != after:
                raise CheckFailed(f"{name} of the {form}, killed in training, is {after}, and {whole} undisturbed.")
    return ", ".join(COMPARED)


def restricted(cluster: Cluster) -> str:
    """The namespace enforces the restricted profile, and every pod of the run was admitted under it."""
    namespace = json.loads(cluster.kubectl("get", "namespace", cluster.namespace, "-o", "json"))
    profile = namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce")
    if profile != "restricted":
        raise CheckFailed(f"The namespace {cluster.namespace} enforces {profile or 'nothing'}, not restricted.")
    pods = cluster.pods(cluster.run["run_id"])
    if not pods:
        raise CheckFailed("The run left no pods to look at.")
    return f"{len(pods)} pods of the run"


def in_the_store(cluster: Cluster) -> str:
    """Report, ROC and detector of the run are in the store."""
    from vqi.storage.object_store import Address, ObjectStore

    store = ObjectStore.from_environment({**os.environ, **cluster.environment})
    root = Address.parse(f"s3://{ARTEFACTS}/v2/artifacts/train-category/{cluster.run['run_id']}")
    keys = [item.key for item in store.objects(root)]
    for step, artefact in (("evaluate", "report"), ("export", "report"), ("export", "bundle"), ("train", "network")):
        if not any(f"/{step}/" in key and artefact in key for key in keys):
            raise CheckFailed(f"The store has no {artefact} of {step} under {root} ({len(keys)} objects).")
    return f"{len(keys)} objects under {root}"


def in_mlflow(cluster: Cluster) -> str:
    """MLflow has the run, with the same numbers."""
    if not cluster.tracking:
        return "skipped: no MLflow"
    listed = _json(
        f"{cluster.tracking}/api/2.0/mlflow/experiments/get-by-name?experiment_name={urllib.parse.quote(cluster.experiment)}"
    )
    answer = _json(
        f"{cluster.tracking}/api/2.0/mlflow/runs/search",
        {"experiment_ids": [listed["experiment"]["experiment_id"]], "max_results": 100},
    )
    runs = answer.get("runs", [])
    figures = [{m["key"]: m["value"] for m in run["data"].get("metrics", [])} for run in runs]
    auroc = cluster.run["metrics"]["image_auroc"]
    if not any(abs(each.get("image_auroc", -1) - auroc) < 1e-6 for each in figures):
        raise CheckFailed(
            f"No MLflow run of {cluster.experiment} has the image AUROC {auroc}; there are {len(runs)} runs."
        )
    return f"{len(runs)} runs in {cluster.experiment}"


def from_the_cache(cluster: Cluster) -> str:
    """The same category again comes from the cache but for its first step; where a photograph changed, nothing does.
    That run is terminated then, and is called canceled."""
    from vqi.storage.object_store import Address, ObjectStore

    began = time.monotonic()
    again = cluster.submit("part", *_changed(cluster))["steps"]
    seconds = time.monotonic() - began
    computed = [step for step, state in again.items() if "from the cache" not in state]
    if computed != ["configure"]:
        raise CheckFailed(f"The same category again computed {', '.join(computed)}, in place of configure alone.")
    store = ObjectStore.from_environment({**os.environ, **cluster.environment})
    root = Address.parse(cluster.changed_source)
    first, second, *_ = sorted(item.key for item in store.objects(root) if "/train/good/" in item.key)
    with tempfile.TemporaryDirectory() as folder:
        file = store.download_prefix(Address(root.bucket, str(Path(first).parent)), Path(folder))[Path(first).name]
        store.upload_file(file, Address(root.bucket, second))
    run_id = cluster.start("part", *_changed(cluster))
    _until(lambda: _training_pod(cluster, run_id), cluster.timeout, "a pod of train that runs")
    steps = {_step(pod) for pod in cluster.pods(run_id)} - {""}
    if kept := {"configure", "ingest", "check-dataset", "train"} - steps:
        raise CheckFailed(f"A photograph changed, and {', '.join(kept)} came from the cache all the same.")
    _terminate(cluster, run_id)
    return f"the second run took {seconds:.0f} s; a changed photograph was noticed; then canceled"


def killed_in_training(cluster: Cluster) -> str:
    """The pod of train is deleted while it runs: the step is tried again."""
    run_id = cluster.start("part", f"train.checkpoints={_checkpoints(cluster, 'killed')}")
    killed, again = _kill_in_training(cluster, run_id, "train")
    cluster.killed_metrics = cluster.wait(run_id)["metrics"]
    return f"{killed} deleted, {again()} did it again"


def a_schedule(cluster: Cluster) -> str:
    """A schedule starts a run by itself, which succeeds; of the compact form, which ran before: from the cache."""
    name = f"every-minute-{cluster.mark}"
    options = cluster.category("part", f"train.checkpoints={_checkpoints(cluster, 'compact')}")
    made = json.loads(
        cluster.vqi(
            "schedule",
            *options,
            "--compact",
            "--cron",
            "* * * * *",
            "--name",
            name,
            "--experiment",
            cluster.experiment,
            "--json",
            *cluster.reach(),
        )
    )
    try:
        run_id = _until(lambda: _run_of_schedule(cluster, made[0]["id"]), 240, f"a run of the schedule {name}")
        cluster.vqi("schedule", "--pause", made[0]["id"], *cluster.reach())
        ended = cluster.wait(run_id)
    finally:
        # Not before its run is over: Kubernetes collects the workflows of a schedule that is deleted, and KFP would
        # show the run as running for ever.
        cluster.vqi("schedule", "--delete", made[0]["id"], *cluster.reach())
    computed = [step for step, state in ended["steps"].items() if "from the cache" not in state]
    if computed != ["configure"]:
        raise CheckFailed(f"The run of the schedule computed {', '.join(computed)}, in place of configure alone.")
    return f"{ended['name']}: {ended['state'].lower()}"


def an_image_that_is_not_there(cluster: Cluster) -> str:
    """A private tag that no registry has: a pipeline of its own, and one sentence on the image."""
    run_id = cluster.start("unpullable", image_tag=f"none-{cluster.mark}")
    try:
        sentence = cluster.vqi("runs", run_id, "--wait", "--timeout", "300", *cluster.reach(), wanted=2)
        if f"ingest:none-{cluster.mark} of step configure cannot be had" not in sentence:
            raise CheckFailed(f"vqi runs does not name the image that cannot be pulled: {sentence.strip()[-300:]}")
        pipeline = cluster.api(f"/apis/v2beta1/runs/{run_id}")["pipeline_version_reference"]["pipeline_id"]
        name = cluster.api(f"/apis/v2beta1/pipelines/{pipeline}")["display_name"]
        if name == "train-category":
            raise CheckFailed("A private tag became a version of the pipeline that everyone starts.")
    finally:
        _terminate(cluster, run_id)
    return f"{name}: named the image, then canceled"


def shards(cluster: Cluster) -> str:
    """An index that two tasks compute, and one that merges what they kept."""
    ended = cluster.submit("sharded", *QUICK, "method.name=patchcore", "compute.shards=2")
    steps = {name: state for name, state in ended["steps"].items() if name in ("index-part", "merge-parts")}
    if len(steps) != 2 or "image_auroc" not in ended["metrics"]:
        raise CheckFailed(f"The run of shards has the steps {', '.join(ended['steps'])}.")
    return ", ".join(f"{name}: {state}" for name, state in steps.items())


def a_trial_that_fails(cluster: Cluster) -> str:
    """Two categories in one comparison, one of which is given too little memory: the other succeeds, the comparison is
    in the store and says what became of the second, and so does the command."""
    from vqi.storage.object_store import Address, ObjectStore

    heavy = f"resources: {{train: {{memory: {TOO_LITTLE}}}}}\n"
    # One trial fails, and so does the run.
    sentence = cluster.compare({"light": "", "heavy": heavy}, "method.name=padim", wanted=1)
    (run_id,) = set(re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", sentence))
    for told in ("train (trial 2) ran out of memory", TOO_LITTLE, "resources.train.memory"):
        if told not in sentence:
            raise CheckFailed(f"vqi submit-all does not tell of {told}: {sentence.strip()[-400:]}")
    store = ObjectStore.from_environment({**os.environ, **cluster.environment})
    page = _comparison(store, Address.parse(f"s3://{ARTEFACTS}/v2/artifacts/train-all/{run_id}"))
    for told in ("1 of 2 runs are complete", "resources.train.memory"):
        if told not in page:
            raise CheckFailed(f"The comparison does not tell of {told}.")
    return f"{run_id}: the command and the comparison say why"


def a_dozen_trials(cluster: Cluster) -> str:
    """Twelve trials in one comparison of the compact form: all complete, and KFP's API never loses sight of them; two
    of them in another comparison come from the cache."""
    from vqi.storage.object_store import Address, ObjectStore

    files = {f"c{number}": f"seed: {number}\n" for number in range(1, DOZEN + 1)}
    run_id = json.loads(cluster.compare(files, "method.name=padim", compact=True))["run_id"]
    size = _record(cluster, run_id, RECORD_LIMIT)
    store = ObjectStore.from_environment({**os.environ, **cluster.environment})
    page = _comparison(store, Address.parse(f"s3://{ARTEFACTS}/v2/artifacts/train-all-compact/{run_id}"))
    if f"{DOZEN} of {DOZEN} runs are complete" not in page:
        raise CheckFailed(f"Not all of the {DOZEN} runs of the comparison {run_id} are complete.")
    tasks = cluster.api(f"/apis/v2beta1/runs/{run_id}")["run_details"]["task_details"]
    known = Counter(task.get("state", "") for task in tasks if task.get("display_name", "").startswith("run-trial("))
    if known != {"SUCCEEDED": DOZEN}:
        raise CheckFailed(f"KFP's API knows the trials as {dict(known)}.")
    # A trial is the same in another comparison.
    began = time.monotonic()
    other = json.loads(cluster.compare(dict(list(files.items())[:2]), "method.name=padim", compact=True))["run_id"]
    if any(_step(pod) == "run-trial" for pod in cluster.pods(other)):
        raise CheckFailed(f"The comparison {other} computed a trial that another had computed.")
    page = _comparison(store, Address.parse(f"s3://{ARTEFACTS}/v2/artifacts/train-all-compact/{other}"))
    if "2 of 2 runs are complete" not in page:
        raise CheckFailed(f"Trials from the cache are not complete in the comparison {other}.")
    return f"{run_id}: {size} bytes; two of them again took {time.monotonic() - began:.0f} s"


def the_store_away(cluster: Cluster) -> str:
    """The store is away for two minutes in the middle of a run, longer than KFP's launcher waits: the run succeeds."""
    run_id = cluster.start("outage", "seed=1", compact=True)
    _until(lambda: _training_pod(cluster, run_id, "make-bundle"), cluster.timeout, "a pod of make-bundle that trains")
    cluster.kubectl("scale", "deployment/minio", "--replicas=0")
    try:
        time.sleep(OUTAGE_SECONDS)
    finally:
        cluster.kubectl("scale", "deployment/minio", "--replicas=1")
        cluster.kubectl("rollout", "status", "deployment/minio", "--timeout=120s")
    ended = cluster.wait(run_id)
    pods = Counter(_step(pod) for pod in cluster.pods(run_id))
    return f"{ended['state'].lower()}, make-bundle in {pods['make-bundle']} pods"


# Each with those that must have passed before it begins. None may read the photographs that from_the_cache changes, but
# a_run, which it follows.
CHECKS: dict[Callable[[Cluster], str], tuple[Callable[[Cluster], str], ...]] = {
    uploads: (),
    a_run: (uploads,),
    the_compact_form: (uploads,),
    killed_in_training: (uploads,),
    an_image_that_is_not_there: (uploads,),
    refusals: (uploads,),
    light_record: (a_run,),
    restricted: (a_run,),
    in_the_store: (a_run,),
    in_mlflow: (a_run,),
    the_same_numbers: (a_run, the_compact_form, killed_in_training),
    from_the_cache: (a_run,),
    a_schedule: (the_compact_form,),
    shards: (uploads,),
    a_trial_that_fails: (uploads,),
    a_dozen_trials: (uploads,),
}
# These disturb every run that goes on: one by one, after all others are over.
DISTURBING = (the_store_away,)


# ---- what they lean on
# ----------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Print a line with the name of the check that says it."""
    print(f"{threading.current_thread().name}: {text}", flush=True)


def _checkpoints(cluster: Cluster, name: str) -> str:
    return f"s3://{BUCKET}/checkpoints/{cluster.mark}/{name}"


def _changed(cluster: Cluster) -> tuple[str, str]:
    """The settings of the runs whose photographs a check changes."""
    return f"data.source={cluster.changed_source}", f"train.checkpoints={_checkpoints(cluster, 'whole')}"


def _training_pod(cluster: Cluster, run_id: str, task: str = "train") -> str:
    """The pod of a task that trains, once its log reports a step of the optimiser, "" before."""
    for pod in cluster.pods(run_id):
        statuses = pod["status"].get("containerStatuses", [])
        if _step(pod) == task and any(s["name"] == "main" and s["state"].get("running") for s in statuses):
            name: str = pod["metadata"]["name"]
            return name if re.search(r"step \d+/", cluster.kubectl("logs", name, "-c", "main")) else ""
    if state := _end(cluster, run_id):
        raise CheckFailed(f"The run {run_id} {state.lower()} before a pod of {task} was seen training.")
    return ""


def _kill_in_training(cluster: Cluster, run_id: str, task: str) -> tuple[str, Callable[[], str]]:
    """Delete the pod of a task that trains. Returns its name, and what gives the name of the pod that did it again when
    the run is over; that raises CheckFailed where none did."""
    killed = _until(lambda: _training_pod(cluster, run_id, task), cluster.timeout, f"a pod of {task} that trains")
    before = _uid(cluster, run_id, killed)
    cluster.kubectl("delete", "pod", killed, "--grace-period=0", "--force")
    say(f"  deleted {killed}")

    def again() -> str:
        # Argo makes the pod anew under the same name, or another one.
        for pod in cluster.pods(run_id):
            if _step(pod) == task and pod["metadata"]["uid"] != before:
                return str(pod["metadata"]["name"])
        raise CheckFailed(f"The pod {killed} was deleted, and no other pod of {task} came after it.")

    return killed, again


def _terminate(cluster: Cluster, run_id: str) -> None:
    """Terminate a run. Raises CheckFailed where vqi calls its end otherwise."""
    cluster.vqi("terminate", run_id, *cluster.reach())
    _until(lambda: _end(cluster, run_id), 120, "the end of a terminated run")
    ended = _ended(cluster, run_id)
    if ended != "canceled":
        raise CheckFailed(f"vqi runs calls a terminated run {ended}.")


def _comparison(store: Any, root: Any) -> str:
    """The page of the comparison that a run left below `root`."""
    pages = [item.key for item in store.objects(root) if "/compare/" in item.key and item.key.endswith("/comparison")]
    if not pages:
        raise CheckFailed(f"The store has no comparison under {root}.")
    return str(store.read_text(type(root)(root.bucket, pages[0])))


def _record(cluster: Cluster, run_id: str, most: int) -> int:
    """The size of Argo's record of a run, bytes. Raises CheckFailed where it is more than `most`, or compressed."""
    selector = f"pipeline/runid={run_id}"
    (workflow,) = json.loads(cluster.kubectl("get", "workflows.argoproj.io", "-l", selector, "-o", "json"))["items"]
    size = len(json.dumps(workflow, separators=(",", ":"), ensure_ascii=False).encode())
    if size > most or workflow["status"].get("compressedNodes"):
        raise CheckFailed(f"Argo's record of the run has {size} bytes, more than {most}.")
    return size


def _uid(cluster: Cluster, run_id: str, name: str) -> str:
    return next((pod["metadata"]["uid"] for pod in cluster.pods(run_id) if pod["metadata"]["name"] == name), "")


def _end(cluster: Cluster, run_id: str) -> str:
    """How KFP calls the end of a run, "" before it."""
    state = str(cluster.api(f"/apis/v2beta1/runs/{run_id}").get("state", ""))
    return state if state in ("SUCCEEDED", "FAILED", "CANCELED") else ""


def _ended(cluster: Cluster, run_id: str) -> str:
    """How vqi calls the state of a run."""
    done = subprocess.run(
        [*VQI, "runs", run_id, "--json", *cluster.reach()],
        env={**os.environ, **cluster.environment},
        capture_output=True,
        text=True,
        timeout=cluster.timeout,
    )
    return str(json.loads(done.stdout)["state"]).lower()


def _step(pod: dict[str, Any]) -> str:
    """The step a pod runs, "" for KFP's own."""
    parts = pod["metadata"].get("annotations", {}).get("workflows.argoproj.io/node-name", "").split(".")
    return re.sub(r"\(.*\)$", "", parts[-2]) if len(parts) > 1 and parts[-1].startswith("executor") else ""


def _run_of_schedule(cluster: Cluster, schedule: str) -> str:
    listed = cluster.api("/apis/v2beta1/runs?page_size=50&sort_by=created_at%20desc")
    return next((run["run_id"] for run in listed.get("runs", []) if run.get("recurring_run_id") == schedule), "")


def _until(read_value: Callable[[], str], seconds: float, what: str) -> str:
    """The first value of `read_value` that is not empty, read every two seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := read_value():
            return result
        time.sleep(2)
    raise CheckFailed(f"Waited {seconds:.0f} s for {what} in vain.")


def _json(address: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        address, None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    for pause in (2, 8, 0):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            # A server that is busy.
            if error.code < 500 or not pause:
                raise
        time.sleep(pause)
    raise AssertionError


@contextmanager
def forward_service(namespace: str, service: str, port: int) -> Iterator[str]:
    """An address on this machine behind which a Service of the namespace answers."""
    process = subprocess.Popen(
        ["kubectl", "-n", namespace, "port-forward", f"svc/{service}", f":{port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        match = re.search(r"127\.0\.0\.1:(\d+)", line)
        if not match:
            raise CheckFailed(
                f"The Service {service} of {namespace} cannot be reached: "
                f"{(process.stderr.read() if process.stderr else '').strip()}"
            )
        yield f"http://127.0.0.1:{match[1]}"
    finally:
        process.terminate()
        process.wait()


def credentials(namespace: str) -> dict[str, str]:
    """The store's keys, from the Secret that the steps take them from; those of the environment where there is no such
    Secret."""
    completed = subprocess.run(
        ["kubectl", "-n", namespace, "get", "secret", "vqi-store", "-o", "json"], capture_output=True, text=True
    )
    if completed.returncode:
        return {}
    return {name: base64.b64decode(value).decode() for name, value in json.loads(completed.stdout)["data"].items()}


def photographs(cluster: Cluster, folder: Path, made: bool) -> None:
    """Put photographs into the store where the runs read them: parts made here, where they are to be `made`, and a copy
    of what the runs read, for the check that changes one."""
    from vqi.dataset.generator import generate
    from vqi.storage.object_store import Address, ObjectStore

    store = ObjectStore.from_environment({**os.environ, **cluster.environment})
    copy = Address.parse(cluster.changed_source)
    if made:
        generate(folder, seed=0, normals=30, test_normals=10, defects_each=4, size=(192, 192))
        for source in (Address.parse(cluster.source), copy):
            store.upload_folder(folder, source)
    else:
        for name, file in store.download_prefix(Address.parse(cluster.source), folder).items():
            store.upload_file(file, Address(copy.bucket, f"{copy.key}/{name}"))


def run_checks(cluster: Cluster, only: list[str]) -> list[str]:
    """Run the checks, or `only` those and what they follow, side by side; the names of those that did not pass."""
    names = [check.__name__ for check in (*CHECKS, *DISTURBING)]
    if unknown := [name for name in only if name not in names]:
        raise SystemExit(f"{', '.join(unknown)}: not a check. Known: {', '.join(names)}.")
    chosen = [check for check in CHECKS if not only or check.__name__ in only]
    for check in chosen:
        chosen += [needed for needed in CHECKS[check] if needed not in chosen]
    passed: dict[str, bool] = {}
    over = {check: threading.Event() for check in chosen}

    def begin(check: Callable[[Cluster], str]) -> None:
        for needed in CHECKS.get(check, ()):
            over[needed].wait()
        try:
            passed[check.__name__] = all(passed[each.__name__] for each in CHECKS.get(check, ())) and run_check(
                cluster, check
            )
        finally:
            if check in over:
                over[check].set()

    threads = [threading.Thread(target=begin, args=(check,), name=check.__name__) for check in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for check in DISTURBING:
        if not only or check.__name__ in only:
            thread = threading.Thread(target=begin, args=(check,), name=check.__name__)
            thread.start()
            thread.join()
    return [name for name in names if not passed.get(name, True)]


def run_check(cluster: Cluster, check: Callable[[Cluster], str]) -> bool:
    """Run one check and say what it saw; whether it passed."""
    began = time.monotonic()
    say("...")
    try:
        seen = check(cluster)
        say(f"ok in {time.monotonic() - began:.0f} s: {seen}")
        return True
    except Exception as error:
        if not isinstance(error, CheckFailed):
            traceback.print_exc()
        say(f"FAILED after {time.monotonic() - began:.0f} s: {error}")
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--host", required=True, help="KFP's address")
    parser.add_argument("--namespace", default="vqi", help="namespace that runs happen in")
    parser.add_argument("--pool", default="any", choices=("any", "xeon", "gaudi"))
    parser.add_argument(
        "--source",
        default="",
        help="s3://bucket/prefix of photographs; empty = parts made here",
    )
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], help="path=value of the category; may be repeated"
    )
    parser.add_argument("--store", default="", help="address of the store from here; empty = the Service minio")
    parser.add_argument(
        "--tracking", default="", help="address of MLflow from here, or none; empty = the Service mlflow"
    )
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for one run")
    parser.add_argument("--only", nargs="*", default=[], help="names of checks; those that they follow run too")
    options = parser.parse_args()
    mark = uuid.uuid4().hex[:6]
    settings = options.settings or list(SETTINGS)
    cluster = Cluster(
        options.host,
        options.namespace,
        options.source or f"s3://{BUCKET}/e2e/{mark}/parts",
        options.pool,
        f"e2e-{mark}",
        settings,
        options.timeout,
    )
    with ExitStack() as stack:
        cluster.store = options.store or stack.enter_context(forward_service(options.namespace, "minio", STORE_PORT))
        if options.tracking != "none":
            cluster.tracking = options.tracking or stack.enter_context(
                forward_service(options.namespace, "mlflow", TRACKING_PORT)
            )
        cluster.environment = {
            **credentials(options.namespace),
            "AWS_ENDPOINT_URL": cluster.store,
            "OMP_NUM_THREADS": "1",
        }
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "parts"
        photographs(cluster, folder, made=not options.source)
        began = time.monotonic()
        failed = run_checks(cluster, options.only)
    print(f"{time.monotonic() - began:.0f} s")
    print(f"{len(failed)} failed: {', '.join(failed)}" if failed else "e2e: all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
