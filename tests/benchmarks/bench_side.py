"""What `bench.py` measures of this project alone, in a process of its own.

python bench_side.py bundle TASK.json RESULT.json     export, and the bundle beside the bare backbone in the same runtime
python bench_side.py decode TASK.json RESULT.json     every photograph decoded, and nothing else
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

PHOTOGRAPHS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


def measure_bundle(task: Mapping[str, Any]) -> dict[str, Any]:
    """`export` and, by the size of the bank ("" = as it was built), the `latency` and that of the `backbone`."""
    import torch
    from choosing_a_method import export_bundle, run_to_evaluation
    from measuring import latencies, seconds

    from vqi.deployment.bundle import read_sidecar
    from vqi.deployment.exports import export_formats
    from vqi.deployment.graph_runtime import read_index
    from vqi.detectors.storage import load_network

    torch.set_num_threads(task["threads"])
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data, weights = Path(task["data"]), Path(task["weights"])
        scored = run_to_evaluation(task["method"], data.name, data, weights, task["overrides"], folder)
        with seconds(result, "export"):
            exported = export_bundle(scored, folder)
        graph = read_sidecar(exported).graph
        index = read_index(exported, graph)
        backbone = open_backbone(load_network(folder / "network"), task["threads"])
        images = torch.rand(8, 3, *graph.input_size, generator=torch.Generator().manual_seed(0))
        for bank in task["banks"]:
            infer = export_formats()["openvino"].open(
                exported, graph.input_size, resize_bank(index, bank), "cpu", task["threads"]
            )
            calls: dict[str, Callable[[torch.Tensor], Any]] = {
                "latency": lambda batch, infer=infer: infer(batch.numpy()),
                "backbone": lambda batch: backbone(batch.numpy()),
            }
            result[f"bank {bank or ''}".strip()] = latencies(calls, images)
    return result


def resize_bank(index: Mapping[str, np.ndarray], items: int) -> dict[str, np.ndarray]:
    """A memory bank repeated, or cut, to so many items (0 = as it is): what a search costs depends on nothing else."""
    longest = max((len(values) for values in index.values() if values.ndim), default=0)
    return {
        name: np.resize(values, (items, *values.shape[1:])) if items and len(values) == longest else values
        for name, values in index.items()
    }


def open_backbone(detector: Any, threads: int) -> Callable[[np.ndarray], Any]:
    """The feature maps of a detector's backbone by OpenVINO, with the properties that a bundle is opened with."""
    import openvino

    from vqi.detectors.graph_split import split_model
    from vqi.detectors.network_graph import convert
    from vqi.detectors.registry import assemble
    from vqi.detectors.settings import parse_settings

    embedded = assemble("patchcore", parse_settings("patchcore", {}), detector.backbone, detector.input_size, 0)
    network, _ = split_model(convert(embedded, detector.input_size))
    properties = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    request = openvino.Core().compile_model(network, "CPU", properties).create_infer_request()

    def run(images: np.ndarray) -> None:
        request.set_tensor("images", openvino.Tensor(images, shared_memory=True))
        request.infer()

    return run


def measure_decoding(task: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds to decode all photographs, by as many threads as a step decodes with, and how many they are."""
    from measuring import seconds

    from vqi.deployment.predictor import read_photograph
    from vqi.platform.threads import decoding_threads

    files = sorted(
        file
        for split in ("train", "test")
        for file in (Path(task["data"]) / split).rglob("*")
        if file.suffix.lower() in PHOTOGRAPHS
    )
    result: dict[str, Any] = {"photographs": len(files)}
    with seconds(result, "decode"), ThreadPoolExecutor(decoding_threads()) as pool:
        for _ in pool.map(lambda file: read_photograph(file).shape, files):
            pass
    return result


if __name__ == "__main__":
    measured = {"bundle": measure_bundle, "decode": measure_decoding}[sys.argv[1]](
        json.loads(Path(sys.argv[2]).read_text())
    )
    Path(sys.argv[3]).write_text(json.dumps(measured, indent=1))
