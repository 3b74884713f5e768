"""fastflow, cflow and cs_flow against anomalib's own networks: the same weights and images, the same latents, likelihoods, maps and scores.

    python tests/oracle/flows_against_anomalib.py --anomalib-python SCRATCH/bin/python --data DATA/cookie --weights resnet18.pth [--only cflow]

Exit code 0 where everything that should agree does, 1 otherwise. Where the two differ on purpose, the difference is printed with its reason and not
judged. The flows are disturbed at random instead of trained, so that no term of an equation is zero or one. SCRATCH is an environment with
'anomalib==2.7.*'. cs_flow's EfficientNet-B5 has random weights: what is compared does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from against_anomalib import THREADS, Comparison, compared
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vqi.dataset.geometry import Geometry
from vqi.dataset.reader import Dataset
from vqi.detectors.cflow import Cflow
from vqi.detectors.cs_flow import CsFlow
from vqi.detectors.fastflow import Fastflow
from vqi.detectors.interface import Detector
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.steps.ingest.step import ingest
from vqi.steps.scoring import TensorBatches

HERE = Path(__file__).resolve().parent
IMAGES = 4


def disturbed(detector: Detector) -> Detector:
    """With other numbers in every trained parameter: as they come, gains are zero and global scales one."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad and not name.endswith("gain"):
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
        elif parameter.requires_grad:
            parameter += 0.3
    return detector


def under(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in module.state_dict().items()}


def with_matrices(state: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Permutations as the matrices that FrEIA's block multiplies by: row i picks channel order[i]."""
    found = {}
    for name, value in state.items():
        permutes = name.endswith(("w_perm", "w_perm_inv"))
        found[name] = torch.eye(len(value))[value].reshape(len(value), len(value), *[1] * rank) if permutes else value
    return found


def fastflow(detector: Detector, images: Tensor) -> tuple[dict[str, Tensor], Callable[[dict[str, Tensor]], list[Comparison]]]:
    """What anomalib is given, and what is compared with its answer."""
    assert isinstance(detector, Fastflow)
    given = under("norm", detector.norms) | with_matrices(under("flow", detector.flows), 2)

    def comparisons(answer: dict[str, Tensor]) -> list[Comparison]:
        latents, scores, losses = detector.latents(images), detector(images), detector.loss({"images": images})
        # It adds up what ours is a mean over: a stage's number of dimensions is all that differs.
        layers = detector.backbone.settings.layers
        total = torch.stack([losses[layer] * z[0].numel() for layer, (z, _) in zip(layers, latents, strict=True)]).sum()
        return [
            *(compared(f"latents of {layer}", z, answer[f"z{n}"]) for n, (layer, (z, _)) in enumerate(zip(layers, latents, strict=True))),
            compared("anomaly maps", scores.map, answer["map"]),
            compared("image scores, maxima", scores.image, answer["score"]),
            compared("loss, times the dimensions", total, answer["loss"]),
        ]

    return given, comparisons


def cflow(detector: Detector, images: Tensor) -> tuple[dict[str, Tensor], Callable[[dict[str, Tensor]], list[Comparison]]]:
    assert isinstance(detector, Cflow)

    def comparisons(answer: dict[str, Tensor]) -> list[Comparison]:
        likelihoods = [detector.likelihood(n, positions) for n, positions in enumerate(detector.positions(images))]
        # Its constants are the largest values of the batch it scores; ours are kept from normals.
        detector.likeliest.copy_(torch.stack([values.max() for values in likelihoods]))
        values = detector(images).map
        values = values - values.min()
        changed = (answer["score_alone"] - answer["score"]).abs().max() / answer["score"].abs().max()
        batch = "it scales probabilities by the batch's own maximum, so a score depends on what is scored beside it; ours does not"
        return [
            *(
                compared(f"log-likelihoods of {layer}", likelihoods[n], answer[f"likelihood{n}"])
                for n, layer in enumerate(("layer1", "layer2", "layer3"))
            ),
            compared("anomaly maps, with its constants", values, answer["map"]),
            compared("image scores, maxima, with its constants", values.amax(dim=(1, 2)), answer["score"]),
            Comparison("its score of an image, alone and in a batch", float(changed), None, batch),
        ]

    return with_matrices(under("flow", detector.flows), 0), comparisons


def cs_flow(detector: Detector, images: Tensor) -> tuple[dict[str, Tensor], Callable[[dict[str, Tensor]], list[Comparison]]]:
    assert isinstance(detector, CsFlow)
    given: dict[str, Tensor] = {}
    for number in range(detector.settings.coupling_blocks):
        permute, block = detector.flow[2 * number], detector.flow[2 * number + 1]
        given[f"permutation.{number}"] = permute.perm
        for half, subnet in ((1, block.subnet1), (2, block.subnet2)):
            parts = {f"conv_scale{scale}_0": part for scale, part in enumerate(subnet.widen)}
            parts |= {f"conv_scale{scale}_1": part for scale, part in enumerate(subnet.narrow)}
            parts |= {"up_conv10": subnet.to_finer[0], "up_conv21": subnet.to_finer[1]}
            parts |= {"down_conv01": subnet.to_coarser[0], "down_conv12": subnet.to_coarser[1]}
            for name, part in parts.items():
                given |= under(f"flow.{number}.cross_convolution{half}.{name}", part)
            given |= {f"flow.{number}.cross_convolution{half}.gamma{scale}": gain.reshape(1) for scale, gain in enumerate(subnet.gain)}

    def comparisons(answer: dict[str, Tensor]) -> list[Comparison]:
        (latents, determinants), scores = detector.latents(images), detector(images)
        added = "it adds up the log-determinants of all images of a batch and subtracts the sum from each image's likelihood"
        return [
            *(compared(f"latents of scale {n}", z, answer[f"z{n}"]) for n, z in enumerate(latents)),
            compared("log-determinants, image by image", determinants, answer["determinants_alone"]),
            compared("anomaly maps, products of the scales", scores.map, answer["map"]),
            compared("image scores, means of the latents", scores.image, answer["score"]),
            compared("loss of a batch", detector.loss({"images": images})["loss"], answer["loss"], None, added),
        ]

    return given, comparisons


@dataclass(frozen=True)
class Method:
    """One method as both sides are set up. `settings` are ours, `theirs` what anomalib's network is told instead of them."""

    compare: Callable[[Detector, Tensor], tuple[dict[str, Tensor], Callable[[dict[str, Tensor]], list[Comparison]]]]
    backbone: str
    layers: tuple[str, ...]
    settings: dict[str, Any]
    theirs: dict[str, Any]


STAGES = ("layer1", "layer2", "layer3")
METHODS = {
    "fastflow": Method(fastflow, "resnet18", STAGES, {"image_score": "max"}, {"flow_steps": 8}),
    "cflow": Method(cflow, "resnet18", STAGES, {}, {"coupling_blocks": 8}),
    # 1024 hidden channels would be a quarter of a billion parameters to carry over.
    "cs_flow": Method(cs_flow, "efficientnet_b5", ("features.6.8",), {"hidden_channels": 64}, {"cross_conv_hidden_channels": 64}),
}


@torch.no_grad()
def judge(name: str, dataset: Dataset, weights: Path, python: Path, folder: Path) -> list[Comparison]:
    """Ask both sides about the same images with the same state, and compare."""
    method, geometry = METHODS[name], Geometry((256, 256))
    source = str(weights) if method.backbone == "resnet18" else "random"
    backbone = BackboneSettings(name=method.backbone, weights=source, layers=method.layers)
    detector = disturbed(create(name, method.settings, backbone, geometry.input_size, seed=0))
    test = dataset.samples("test")
    images = next(iter(TensorBatches(dataset, test[:: max(1, len(test) // IMAGES)][:IMAGES], geometry, IMAGES)))
    given, comparisons = method.compare(detector, images)
    given |= under("backbone", detector.backbone.body) | {"images": (images - detector.backbone.mean) / detector.backbone.std}
    folder.mkdir()
    save_file({key: tensor.contiguous().clone() for key, tensor in given.items()}, folder / "question.safetensors")
    question = {"method": name, "layers": method.layers, "settings": method.theirs, "threads": THREADS}
    (folder / "question.json").write_text(json.dumps(question), encoding="utf-8")
    command = [str(python), str(HERE / "anomalib_flows.py"), str(folder)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": str(THREADS)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"anomalib_flows.py ended with exit code {done.returncode}:\n{done.stdout[-4000:]}")
    return comparisons(load_file(folder / "answer.safetensors"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anomalib-python", type=Path, required=True, help="interpreter of an environment with anomalib 2.7")
    parser.add_argument("--data", type=Path, required=True, help="a folder in MVTec layout")
    parser.add_argument("--weights", type=Path, required=True, help="ResNet-18's state dict with torchvision's keys, at least up to layer3")
    parser.add_argument("--only", choices=sorted(METHODS), help="one method")
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)

    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        stored = Path(scratch) / "dataset"
        ingest(
            name=asked.data.name,
            source=str(asked.data),
            layout="mvtec",
            mask_suffix="_mask",
            calibration_fraction=0.0,
            seed=0,
            dataset=stored,
        )
        for name in [asked.only] if asked.only else METHODS:
            print(name, flush=True)
            for comparison in judge(name, Dataset(stored), asked.weights, asked.anomalib_python, Path(scratch) / name):
                print(comparison, flush=True)
                failed += not comparison.agrees
    print(f"{failed} comparison(s) disagree" if failed else "all that should agree agrees")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
