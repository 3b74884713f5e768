"""Measure every method on the photographs beside the project and write docs/choosing-a-method.md from what was
measured.

python tests/benchmarks/choosing_a_method.py --data ../shared/data --weights ../shared/weights [--only METHOD/SET ...]
[--again] [--write]

Each pair of method and set goes through the steps of `vqi run`; its figures go into docs/choosing-a-method.json, and
what is there is not measured again unless asked for. A method that trains is measured once more after a single step of
the optimiser (`untrained`): what it has from its weights and its first step alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from guide_text import guide

if TYPE_CHECKING:
    from vqi.evaluation.records import Results

DOCS = Path(__file__).resolve().parents[2] / "docs"
RESULTS, GUIDE = DOCS / "choosing-a-method.json", DOCS / "choosing-a-method.md"
SETS = ("cookie", "hazelnut", "magnetic_tile")
RESNET, MOBILENET = (
    "resnet18_imagenet_layers1-3_torchvision_keys.pth",
    "mobilenet_v2_imagenet_from_tflite_ptq_torchvision_keys.pth",
)
LATENCY_CALLS = 12
ONE_STEP = {"train.max_steps": 1}


@dataclass(frozen=True)
class Plan:
    """How a method is run for the guide: what overrides a category's defaults, for all sets and for one; and why it
    is not run on the others; what keeps it untrained beside `train.max_steps`."""

    overrides: dict[str, Any] = field(default_factory=dict)
    of_set: dict[str, dict[str, Any]] = field(default_factory=dict)
    sets: tuple[str, ...] = ("cookie", "hazelnut")
    weights: str = RESNET
    elsewhere: str = "left out for time; its training is the same as on the other sets"
    one_step: dict[str, Any] = field(default_factory=dict)

    def of(self, name: str) -> dict[str, Any]:
        return self.overrides | self.of_set.get(name, {})


def _epochs(batch_size: int, epochs: int, **of_set: int) -> Plan:
    sets = tuple(name for name in SETS if name in {"cookie", "hazelnut", *of_set})
    return Plan(
        {"train.batch_size": batch_size, "train.max_epochs": epochs},
        {name: {"train.max_epochs": few} for name, few in of_set.items()},
        sets,
    )


PLANS = {
    "dfm": Plan(sets=SETS),
    "padim": Plan(sets=SETS),
    "patchcore": Plan(sets=SETS),
    "stfpm": _epochs(8, 20, magnetic_tile=5),
    "fastflow": _epochs(8, 20, magnetic_tile=5),
    "cflow": Plan({"train.batch_size": 8, "train.max_epochs": 3, "backbone.layers": "layer1,layer2,layer3"}),
    # At the paper's rate its blocks' gains, which begin at nothing, are still next to nothing after so few steps.
    "cs_flow": Plan(
        {
            "train.batch_size": 4,
            "train.max_steps": 200,
            "method.settings.hidden_channels": 256,
            "method.settings.learning_rate": 2e-3,
        }
    ),
    "efficient_ad": Plan(
        {"train.max_steps": 200, "method.settings.distillation_steps": 40},
        one_step={"method.settings.distillation_steps": 1},
    ),
    "draem": Plan({"image.size": 64, "train.batch_size": 4, "train.max_steps": 300}),
    "simsiam": Plan({"train.batch_size": 16, "train.max_epochs": 5}),
    "cutpaste": Plan({"train.batch_size": 8, "train.max_epochs": 5, "method.settings.freeze_epochs": 1}),
    "vgg_cam": Plan(
        {
            "backbone.name": "mobilenet_v2",
            "backbone.mean": "0.5,0.5,0.5",
            "backbone.std": "0.5,0.5,0.5",
            "train.max_epochs": 3,
        },
        sets=("magnetic_tile",),
        weights=MOBILENET,
        elsewhere="too few photographs of defects to learn from and to test on",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"))
    parser.add_argument("--only", nargs="*", default=[], metavar="METHOD/SET", help="these pairs alone")
    parser.add_argument("--again", action="store_true", help="measure what is measured already, too")
    parser.add_argument(
        "--write", action="store_true", help="write the guide from what is measured and measure nothing"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--guide", type=Path, default=GUIDE)
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text()) if arguments.results.is_file() else {}
    pairs = [(method, name) for name in SETS for method, plan in PLANS.items() if name in plan.sets]
    for method, name in [] if arguments.write else pairs:
        key = f"{method}/{name}"
        if (arguments.only and key not in arguments.only) or (key in results and not arguments.again):
            continue
        print(f"{key} ...", file=sys.stderr, flush=True)
        data, weights = (arguments.data / name).resolve(), (arguments.weights / PLANS[method].weights).resolve()
        with ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn")
        ) as pool:  # a process of its own: its peak of memory is this pair's
            results[key] = pool.submit(measure, method, name, data, weights).result()
        keep(arguments.results, results, key)
    for key in [] if arguments.write else untrained_pairs(results):
        if (arguments.only and key not in arguments.only) or ("untrained" in results[key] and not arguments.again):
            continue
        print(f"{key}, untrained ...", file=sys.stderr, flush=True)
        method, _, name = key.partition("/")
        data, weights = (arguments.data / name).resolve(), (arguments.weights / PLANS[method].weights).resolve()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            results[key]["untrained"] = pool.submit(measure_untrained, method, name, data, weights).result()
        keep(arguments.results, results, key)
    write(arguments.guide, guide(results, left_out()))


def keep(path: Path, results: dict[str, Any], key: str) -> None:
    write(path, json.dumps(dict(sorted(results.items())), indent=1) + "\n")
    print(json.dumps(results[key]), file=sys.stderr, flush=True)


def untrained_pairs(results: dict[str, Any]) -> list[str]:
    """The measured pairs of a method that learns from normals by gradient and is not dfm at heart (those have dfm
    beside them)."""
    return [
        key
        for key, result in results.items()
        if result["fit"]["steps"] and key.partition("/")[0] not in {"simsiam", "cutpaste", "vgg_cam"}
    ]


def left_out() -> dict[str, str]:
    """Why pairs of method and set are not measured, by `method/set`."""
    return {
        f"{method}/{name}": plan.elsewhere for method, plan in PLANS.items() for name in SETS if name not in plan.sets
    }


def measure(method: str, name: str, data: Path, weights: Path) -> dict[str, Any]:
    """The steps of one run, in this process (six of them would each load torch anew), and what came of it."""
    import torch

    overrides = PLANS[method].of(name)
    with tempfile.TemporaryDirectory() as folder:
        scored = run_to_evaluation(method, name, data, weights, overrides, Path(folder))
        bundle = export_bundle(scored, Path(folder))
        return {
            "settings": overrides,
            "metrics": scored.metrics,
            "counts": {key: getattr(scored.evaluated.counts, key) for key in ("good", "defect", "train_images")},
            "fit": scored.fit,
            "peak_mib": scored.peak_mib,
            "latency_ms": {backend: latency(bundle, backend) for backend in ("onnxruntime", "openvino")},
            "bundle_mib": round(sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file()) / 2**20, 1),
            "weights": scored.evaluated.weights.label,
            "machine": {
                "processor": processor_name(),
                "threads": torch.get_num_threads(),
                "date": time.strftime("%Y-%m-%d"),
            },
        }


def measure_untrained(method: str, name: str, data: Path, weights: Path) -> dict[str, float | None]:
    """The metrics of the same plan after one step of the optimiser."""
    overrides = PLANS[method].of(name) | ONE_STEP | PLANS[method].one_step
    with tempfile.TemporaryDirectory() as folder:
        return run_to_evaluation(method, name, data, weights, overrides, Path(folder)).metrics


@dataclass(frozen=True)
class Scored:
    """What the steps up to evaluate gave: evaluate's document, the fit's time and peak of memory, and the gate's
    tolerance for the export to come."""

    evaluated: Results
    fit: dict[str, float]
    peak_mib: int
    tolerance: float

    @property
    def metrics(self) -> dict[str, float | None]:
        return {key: getattr(self.evaluated.metrics, key) for key in ("image_auroc", "pixel_auroc", "aupro")}


def run_to_evaluation(
    method: str, name: str, data: Path, weights: Path, overrides: dict[str, Any], folder: Path
) -> Scored:
    """Ingest, train, build_index and evaluate into `folder`, each artefact under its step's word for it."""
    from measuring import peak_mib

    from vqi.category import Category
    from vqi.steps.build_index import settings as build_settings
    from vqi.steps.build_index.step import build_index
    from vqi.steps.evaluate import settings as evaluate_settings
    from vqi.steps.evaluate.step import evaluate
    from vqi.steps.ingest import settings as ingest_settings
    from vqi.steps.ingest.step import ingest
    from vqi.steps.train import settings as train_settings
    from vqi.steps.train.step import train

    category = Category.parse(
        nested({"data.source": str(data), "backbone.weights": str(weights), **overrides, "method.name": method})
    )
    dataset, network, index, evaluation = (folder / part for part in ("dataset", "network", "index", "evaluation"))
    # All normals are learnt from: the guide is about the methods, not about their thresholds.
    brought_in = category.data.model_copy(
        update={"calibration_fraction": 0.0 if category.trains else None, "layout": "auto"}
    )
    ingest(ingest_settings.StepSettings.of(category.model_copy(update={"data": brought_in})), dataset=dataset)
    started, begun = time.perf_counter(), time.process_time()
    learning = category.data.model_copy(update={"calibration_fraction": 0.0})
    training = train(
        train_settings.StepSettings.of(category.model_copy(update={"data": learning})), dataset=dataset, network=network
    )
    build_index(build_settings.StepSettings.of(category), dataset=dataset, network=network, index=index)
    seconds, processor_seconds = time.perf_counter() - started, time.process_time() - begun
    peak = round(peak_mib())
    evaluated = evaluate(
        evaluate_settings.StepSettings.of(category),
        dataset=dataset,
        network=network,
        index=index,
        evaluation=evaluation,
        report=folder / "report.html",
    )
    fit = {
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor_seconds, 1),
        "steps": training.steps if training else 0,
    }
    return Scored(evaluated, fit, peak, category.export.tolerance)


def export_bundle(scored: Scored, folder: Path) -> Path:
    """The bundle of what `run_to_evaluation` left in `folder`, and beside it."""
    from vqi.deployment.settings import ExportSettings
    from vqi.steps.export.settings import StepSettings
    from vqi.steps.export.step import export

    bundle = folder / "bundle"
    export(
        StepSettings(export=ExportSettings(tolerance=scored.tolerance)),
        **{part: folder / part for part in ("dataset", "network", "index", "evaluation")},
        bundle=bundle,
    )
    return bundle


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """`{"a.b.c": 1}` as `{"a": {"b": {"c": 1}}}`."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        node = result
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return result


def latency(bundle: Path, backend: str) -> float:
    """The median processor time of one image, alone, on one thread; ms. Other processes move it less than the clock."""
    from vqi.deployment.bundle import read_sidecar
    from vqi.deployment.graph_runtime import open_graph

    sidecar = read_sidecar(bundle)
    graph = open_graph(bundle, sidecar, backend, threads=1)
    height, width = sidecar.geometry.input_size
    image = np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)
    taken = []
    for _ in range(LATENCY_CALLS):
        started = time.process_time()
        graph.run(image)
        taken.append(time.process_time() - started)
    return round(1000 * statistics.median(taken[2:]), 1)


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def write(path: Path, text: str) -> None:
    """A file that is whole or not there."""
    from vqi.platform.files import write_whole

    write_whole(path, text)


if __name__ == "__main__":
    main()
