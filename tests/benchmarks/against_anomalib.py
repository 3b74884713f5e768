"""Side by side with anomalib: the same photographs, weights, sizes, threads and metrics, each side in a process of its
own, one after the other.

    python -m venv SCRATCH && SCRATCH/bin/pip install 'anomalib==2.7.*'       (anomalib is not a dependency of this project)
    python tests/benchmarks/against_anomalib.py --anomalib-python SCRATCH/bin/python --data DATA/cookie --weights resnet18.pth [--only patchcore]
        [--rounds 3] [--json FILE]

DATA is a folder in MVTec layout; every one of its training normals is trained on. Ratios are printed and never
asserted: they depend on the machine, and on a machine that does something else as well they mean nothing. With several
rounds the two sides alternate and medians are shown; the round's number is the seed, so that the metrics' spread over
the random choices of the methods shows too.

fit: photographs on disk to a fitted detector, imports and weights not counted; with threshold: and the scores of the
normals by indices they are not in, which the other side has no counterpart of. Latency: an image in memory to its score
and map. Both sides' maps are measured by this project's exact metrics at the network's input size.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vqi.dataset.geometry import Geometry
from vqi.dataset.reader import Dataset
from vqi.dataset.settings import DataSettings
from vqi.evaluation.aupro import PixelScores
from vqi.evaluation.metrics import Ranking
from vqi.steps.ingest.settings import StepSettings
from vqi.steps.ingest.step import ingest

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Case:
    """One method with its settings, in this project's names."""

    name: str
    method: str
    layers: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case("patchcore, coreset 1 %", "patchcore", ("layer2", "layer3"), {"coreset_ratio": 0.01}),
    Case("patchcore, coreset 10 %", "patchcore", ("layer2", "layer3"), {"coreset_ratio": 0.1}),
    Case("padim, 100 channels", "padim", ("layer1", "layer2", "layer3"), {"channels": 100}),
    Case("dfm, pool 2, 99 %", "dfm", ("layer3",), {"pool": 2, "variance": 0.99}),
    Case("dfm, pool 4, 97 %", "dfm", ("layer3",), {"pool": 4, "variance": 0.97}),
)

# Rows of the table: what each is called, and its key in a result.
ROWS = (
    ("fit, s", "fit_seconds"),
    ("  processor time, s", "processor_fit_seconds"),
    ("fit with threshold (ours alone), s", "calibrated_fit_seconds"),
    ("  processor time, s", "processor_calibrated_fit_seconds"),
    ("  of it embedding, s", "embed_seconds"),
    ("  of it index, s", "index_seconds"),
    ("latency, batch 1, ms", "latency_ms_1"),
    ("latency, batch 8, ms/image", "latency_ms_8"),
    ("backbone alone, batch 1, ms", "backbone_ms_1"),
    ("backbone alone, batch 8, ms/image", "backbone_ms_8"),
    ("latency / own backbone, batch 1", "over_backbone_1"),
    ("latency / own backbone, batch 8", "over_backbone_8"),
    ("test set from disk, ms/image", "test_ms"),
    ("peak memory of fit, MiB", "peak_mib"),
    ("  above the start, MiB", "fit_mib"),
    ("stored detector, MiB", "stored_mib"),
    ("image AUROC", "image_auroc"),
    ("pixel AUROC", "pixel_auroc"),
    ("AUPRO (.3)", "aupro"),
    ("AUPRO (.05)", "aupro_05"),
)
METRICS = ("image_auroc", "pixel_auroc", "aupro", "aupro_05")


def make_dataset(data: Path, folder: Path) -> Dataset:
    """The Dataset of photographs in MVTec layout, every normal of them to learn from."""
    settings = DataSettings(source=str(data), layout="mvtec", calibration_fraction=0.0)
    ingest(StepSettings(name=data.name, data=settings), dataset=folder)
    return Dataset(folder)


def make_task(case: Case, data: Path, folder: Path, weights: Path) -> dict[str, Any]:
    """What a side is handed: the photographs `data`, their Dataset `folder`, and what is fitted to them."""
    dataset = Dataset(folder)
    train, test = ([sample.path for sample in dataset.samples(split)] for split in ("train", "test"))
    return {
        "root": str(data.resolve()),
        "dataset": str(folder),
        "train": train,
        "test": test,
        "method": case.method,
        "layers": case.layers,
        "settings": case.settings,
        "backbone": "resnet18",
        "weights": str(weights.resolve()),
        "size": [256, 256],
        "batch_size": 8,
        "threads": 2,
        "seed": 0,
    }


def measure_side(python: Path, script: str, task: dict[str, Any], folder: Path, dataset: Dataset) -> dict[str, Any]:
    """Run one side in its own process and measure what it wrote."""
    folder.mkdir(parents=True)
    (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
    threads = str(task["threads"])
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    if script == "anomalib_side.py":
        # Its coreset loop frees and takes arrays of up to 32 MiB, which fragments glibc's heap: on small sets it grew
        # by an array a pick until the kernel ended it. From this size on they are mapped and given back. Our side needs
        # no such help.
        environment |= {"MALLOC_MMAP_THRESHOLD_": str(16 * 2**20)}
    command = [str(python), str(HERE / script), str(folder / "task.json"), str(folder)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{script} ended with exit code {done.returncode}:\n{done.stdout[-4000:]}")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    result |= metrics(dataset, np.load(folder / "scores.npy"), np.load(folder / "maps.npy", mmap_mode="r"))
    result["test_ms"] = 1000 * result["test_seconds"] / len(task["test"])
    result["fit_mib"] = result["peak_mib"] - result["start_mib"]
    for batch_size in (1, 8):
        result[f"over_backbone_{batch_size}"] = result[f"latency_ms_{batch_size}"] / result[f"backbone_ms_{batch_size}"]
    return result


def metrics(dataset: Dataset, scores: np.ndarray, maps: np.ndarray) -> dict[str, float | None]:
    """Image and pixel metrics of scores [N] and maps [N, h, w] of the test samples in the dataset's order."""
    samples = dataset.samples("test")
    geometry = Geometry(size=(maps.shape[1], maps.shape[2]))
    pixels = PixelScores(maps.size)
    for sample, values in zip(samples, maps, strict=True):
        mask = dataset.mask(sample)
        if sample.label == "good" or mask is not None:
            pixels.add(np.asarray(values), None if mask is None else geometry.apply_mask(mask), sample.defect)
    good = np.array([sample.label == "good" for sample in samples])
    computed = {"image_auroc": Ranking(scores[~good], scores[good]).auroc} | pixels.ranking_metrics()
    return {name: computed[name] for name in METRICS}


def median(results: list[dict[str, Any]], key: str) -> float | None:
    values = [result[key] for result in results if result.get(key) is not None]
    return statistics.median(values) if values else None


def table(case: Case, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    """Medians of both sides, and anomalib's over ours (metrics: ours minus anomalib's)."""
    lines = [f"\n{case.name}", f"  {'':36}{'vqi':>10}{'anomalib':>10}{'':>14}"]
    for label, key in ROWS:
        mine, other = median(ours, key), median(theirs, key)
        if mine is None or other is None:
            continue
        if key in METRICS:
            spread = max(max(r[key] for r in results) - min(r[key] for r in results) for results in (ours, theirs))
            compared = f"{mine - other:+.4f}" + (
                f"  (spread of {len(ours)} seeds {spread:.4f})" if len(ours) > 1 else ""
            )
            lines.append(f"  {label:36}{mine:10.4f}{other:10.4f}{compared:>14}")
        else:
            lines.append(f"  {label:36}{mine:10.2f}{other:10.2f}{f'x {other / mine:.2f}' if mine > 0 else '':>14}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--anomalib-python", type=Path, required=True, help="interpreter of an environment with anomalib 2.7"
    )
    parser.add_argument("--data", type=Path, required=True, help="a folder in MVTec layout")
    parser.add_argument(
        "--weights",
        type=Path,
        required=True,
        help="ResNet-18's state dict with torchvision's keys, at least up to layer3",
    )
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--engine", action="store_true", help="time anomalib's Engine.fit as well")
    parser.add_argument("--json", type=Path, help="write every round's figures here")
    arguments = parser.parse_args()
    chosen = [case for case in CASES if arguments.only in case.name]
    if not chosen:
        parser.error(f"--only {arguments.only!r} names none of: {'; '.join(case.name for case in CASES)}")

    everything: dict[str, Any] = {
        "data": arguments.data.name,
        "size": arguments.size,
        "threads": arguments.threads,
        "cases": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dataset = make_dataset(arguments.data, folder / "dataset")
        train, test = (dataset.samples(split) for split in ("train", "test"))
        counts = f"{len(train)} training and {len(test)} test images"
        print(
            f"{arguments.data.name}: {counts} at {arguments.size} px, {arguments.threads} threads, {arguments.rounds} round(s)"
        )
        for case in chosen:
            ours, theirs = [], []
            for number in range(arguments.rounds):
                task = make_task(case, arguments.data, folder / "dataset", arguments.weights) | {
                    "size": [arguments.size, arguments.size],
                    "batch_size": arguments.batch_size,
                    "threads": arguments.threads,
                    "seed": number,
                    "engine": arguments.engine,
                }
                round_folder = folder / f"{CASES.index(case)}-{number}"
                ours.append(measure_side(Path(sys.executable), "vqi_side.py", task, round_folder / "vqi", dataset))
                theirs.append(
                    measure_side(
                        arguments.anomalib_python, "anomalib_side.py", task, round_folder / "anomalib", dataset
                    )
                )
            print(table(case, ours, theirs), flush=True)
            if arguments.engine:
                print(f"  anomalib's Engine.fit, s {median(theirs, 'engine_fit_seconds'):.2f}")
            everything["cases"][case.name] = {"vqi": ours, "anomalib": theirs}
            if arguments.json:
                arguments.json.write_text(json.dumps(everything, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
