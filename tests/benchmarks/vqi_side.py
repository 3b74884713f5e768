"""This project's side of a benchmark, measured as the other one is.

python vqi_side.py TASK.json RESULT_FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fit_side import fit
from measuring import LATENCY_IMAGES, latencies, peak_mib, seconds, write_result

from vqi.batches.scoring import score_samples
from vqi.batches.tensors import TensorBatches
from vqi.dataset.geometry import Geometry
from vqi.dataset.reader import Dataset
from vqi.detectors.compute import to_device
from vqi.detectors.engine import engine_of
from vqi.detectors.network_graph import write_engine
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.detectors.storage import load_detector, save_index, save_network
from vqi.platform.devices import Compute
from vqi.steps.train.step import ENGINE_EXAMPLES


def run(task: dict[str, Any], folder: Path) -> None:
    torch.set_num_threads(task["threads"])
    compute = Compute(precision=task.get("precision", "float32"), batch_size=task["batch_size"])
    geometry = Geometry(size=tuple(task["size"]))
    backbone = BackboneSettings(name=task["backbone"], weights=task["weights"], layers=tuple(task["layers"]))
    dataset = Dataset(Path(task["dataset"]))
    detector = to_device(create(task["method"], task["settings"], backbone, geometry.input_size, task["seed"]), compute)
    result: dict[str, Any] = {"versions": {"torch": torch.__version__}, "start_mib": peak_mib()}

    train = dataset.samples("train")
    normals = TensorBatches(dataset, train, geometry, compute.batch_size)

    # As train does; an engine's graph is a part of what its user waits for.
    stored = Path(task["dataset"]).with_name("network")
    with seconds(result, "engine_seconds"):
        if task.get("by_engine"):
            examples = next(iter(normals))[:ENGINE_EXAMPLES]
            stored.mkdir(exist_ok=True)
            engine = write_engine(detector, stored, compute, examples)
            detector.engine = engine_of(stored, engine, embeds=True)
            save_network(detector, stored, {}, engine)
            to_device(detector, compute)
    if task.get("by_engine"):
        # build_index is a process of its own, which needs no torch where the method does not.
        fitted = folder / "index"
        command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("fit_side.py"))]
        subprocess.run([*command, str(folder / "task.json"), str(stored), str(fitted)], check=True)
        result |= json.loads((fitted / "result.json").read_text(encoding="utf-8"))
        detector.index = load_detector(stored, fitted).index
    else:
        result |= fit(detector, dataset, geometry, compute, task.get("calibrates", True))

    # Timed by itself afterwards: while the index is built the embeddings are streamed.
    with seconds(result, "embed_seconds"):
        for _ in detector.embedded(normals):
            pass
    result["index_seconds"] = result["fit_seconds"] - result["embed_seconds"]

    test = dataset.samples("test")
    sample = torch.cat(list(TensorBatches(dataset, test[:LATENCY_IMAGES], geometry, compute.batch_size)))
    detector.engine = None  # both in torch, as the other side
    result |= latencies({"latency": detector, "backbone": detector.backbone}, sample)

    with seconds(result, "test_seconds"):
        scored = [(score, values) for _, score, values in score_samples(detector, dataset, test, geometry, compute)]

    with tempfile.TemporaryDirectory() as stored:
        network, index = Path(stored) / "network", Path(stored) / "index"
        network.mkdir()
        index.mkdir()
        save_network(detector, network, {})
        save_index(detector, index, network)
        result["stored_mib"] = sum(file.stat().st_size for file in Path(stored).rglob("*") if file.is_file()) / 2**20
    write_result(
        folder,
        result,
        np.array([score for score, _ in scored], dtype=np.float32),
        np.stack([values for _, values in scored]),
    )


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
