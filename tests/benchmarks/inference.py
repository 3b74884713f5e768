"""Inference of exported graphs over that of the bare backbone, in the same runtime (OpenVINO, float32, one thread).

    python tests/benchmarks/inference.py --photographs DATA/cookie --weights resnet18.pth [--only patchcore ...] [--rounds 8] [--json FILE]

Every method is exported as a bundle's graph is, and opened as `vqi predict` opens it; the backbone alone is the same
network with its feature maps as outputs, compiled for the batch. The two take turns in one process. What is compared is processor time an image, the best of the rounds, which
other processes change less than the clock; ratios are printed and never asserted. PatchCore's banks are patches of the
photographs picked at random: latency depends on their number alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from PIL import Image
from torch import Tensor, nn

from vqi.deployment.exports import check_formats
from vqi.deployment.exports.export_format import Infer, Note
from vqi.deployment.exports.openvino import OpenVino
from vqi.deployment.graph_export import export_graphs
from vqi.deployment.graph_runtime import read_index
from vqi.detectors.backbones import Backbone, create_backbone
from vqi.detectors.interface import Detector
from vqi.detectors.registry import assemble, detector_class
from vqi.detectors.settings import BackboneSettings, parse_settings

SIDE = 256
BATCHES = (1, 8)
NORMALS = 32
CASES: dict[str, tuple[str, int]] = {
    "patchcore, bank 2,000": ("patchcore", 2000),
    "patchcore, bank 16,000": ("patchcore", 16000),
    "padim": ("padim", 0),
    "dfm": ("dfm", 0),
    "stfpm": ("stfpm", 0),
}
ONE_THREAD = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}


class BareBackbone(nn.Module):
    """The feature maps that a method reads, as outputs of a graph."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(images).values())


def photographs(folder: Path) -> Tensor:
    """float32 [n, 3, SIDE, SIDE] of at most NORMALS files, in [0, 1]."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:NORMALS]
    arrays = [np.asarray(Image.open(file).convert("RGB").resize((SIDE, SIDE))) for file in files]
    return torch.from_numpy(np.stack(arrays).astype(np.float32) / 255).permute(0, 3, 1, 2).contiguous()


@torch.inference_mode()
def index_of(detector: Detector, images: Tensor, bank: int) -> dict[str, Tensor]:
    """The method's own index, or a bank of so many random patches."""
    batches: Iterable[Tensor] = (detector.embed(batch) for batch in images.split(4))
    if not bank:
        return detector.fit(batches, len(images))
    patches = torch.cat([batch.flatten(0, 2) for batch in batches])
    order = torch.randperm(len(patches), generator=torch.Generator().manual_seed(0))
    return {"memory_bank": patches[order[:bank]].contiguous()}


def exported(detector: Detector, images: np.ndarray, folder: Path) -> tuple[Infer, Mapping[str, Note]]:
    """The detector's graph as `vqi predict` opens it from a bundle, and what the parity gate notes on its shortcut."""
    written = export_graphs(detector, folder, check_formats(("openvino",)))
    index = read_index(folder, written.graph)
    notes = OpenVino().prove(folder, (SIDE, SIDE), index, images)
    return OpenVino().open(folder, (SIDE, SIDE), index, "cpu", threads=1), notes


def bare(backbone: Backbone, batch: int) -> Infer:
    """The backbone's graph alone, compiled for so many images."""
    example = (torch.zeros(2, 3, SIDE, SIDE),)
    with torch.no_grad():
        program = torch.export.export(
            BareBackbone(backbone).eval(), example, dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=False
        )
    model = openvino.convert_model(program)
    model.reshape([batch, 3, SIDE, SIDE])
    request = openvino.Core().compile_model(model, "CPU", ONE_THREAD).create_infer_request()
    return lambda images: request.infer([images], share_inputs=True, share_outputs=True)


def milliseconds(graphs: dict[str, Infer], images: np.ndarray, rounds: int) -> dict[str, float]:
    """Processor time of each graph for the images, ms an image: the best of `rounds`, in turns."""
    best = dict.fromkeys(graphs, float("inf"))
    for turn in range(-2, rounds):
        for name, graph in graphs.items():
            started = time.process_time()
            graph(images)
            if turn >= 0:
                best[name] = min(best[name], time.process_time() - started)
    return {name: 1000 * seconds / len(images) for name, seconds in best.items()}


def measure(method: str, bank: int, images: Tensor, weights: str, rounds: int) -> dict[str, Any]:
    """For each batch the times of `backbone` and `graph`, and their ratio; and the recall of a pre-selection."""
    layers = detector_class(method).default_layers
    backbone = create_backbone(BackboneSettings(name="resnet18", weights=weights), layers)
    detector = assemble(method, parse_settings(method, {}), backbone, (SIDE, SIDE), 0).eval()
    detector.index = index_of(detector, images, bank) if method != "stfpm" else {}
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        graph, notes = exported(detector, images[:8].numpy(), Path(folder))
        for batch in BATCHES:
            times = milliseconds({"backbone": bare(backbone, batch), "graph": graph}, images[:batch].numpy(), rounds)
            measured[str(batch)] = times | {"ratio": times["graph"] / times["backbone"]}
    return measured | ({"recall": float(notes["recall"])} if "recall" in notes else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--weights", default="random")
    parser.add_argument("--only", nargs="*", choices=sorted({method for method, _ in CASES.values()}))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = photographs(arguments.photographs)
    print(
        "| | backbone, batch 1, ms | graph | ratio | backbone, batch 8, ms an image | graph | ratio | neighbours found |\n|---|---|---|---|---|---|---|---|"
    )
    table = {}
    for name, (method, bank) in CASES.items():
        if arguments.only and method not in arguments.only:
            continue
        table[name] = measure(method, bank, images, arguments.weights, arguments.rounds)
        rows = [table[name][str(batch)] for batch in BATCHES]
        cells = [f"{row['backbone']:.1f} | {row['graph']:.1f} | x {row['ratio']:.2f}" for row in rows]
        recall = f"{table[name]['recall']:.4f}" if "recall" in table[name] else ""
        print(f"| {name} | {' | '.join(cells)} | {recall} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
