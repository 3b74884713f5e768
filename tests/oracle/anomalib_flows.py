"""anomalib's own flow networks with this project's weights. Run by the interpreter of an environment that has anomalib,
not by the project's.

    python anomalib_flows.py QUESTION_FOLDER

The folder holds `question.json` and `question.safetensors`, whose tensors are `images` (normalised as the backbone
wants them) and our state under anomalib's names, each below its part: `backbone.`, `norm.`, `flow.`.
`answer.safetensors` is written beside them.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from anomalib.models.image.cflow.torch_model import CflowModel
from anomalib.models.image.csflow import torch_model as csflow_model
from anomalib.models.image.csflow.loss import CsFlowLoss
from anomalib.models.image.fastflow.loss import FastflowLoss
from anomalib.models.image.fastflow.torch_model import FastflowModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def fill(module: nn.Module, prefix: str, tensors: dict[str, Tensor]) -> None:
    """Load what lies below `prefix`; nothing of it may be unknown, and nothing of the module missing but the counters
    of batch normalisation."""
    state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    missing, unexpected = module.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing), missing


def fastflow(question: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    size = tuple(tensors["images"].shape[-2:])
    model = FastflowModel(size, "resnet18", pre_trained=False, **question["settings"]).eval()
    fill(model.feature_extractor, "backbone.", tensors)
    fill(model.norms, "norm.", tensors)
    fill(model.fast_flow_blocks, "flow.", tensors)
    scored = model(tensors["images"])
    model.train()
    latents, determinants = model(tensors["images"])
    answer = {f"z{number}": z for number, z in enumerate(latents)}
    return answer | {
        "map": scored.anomaly_map[:, 0],
        "score": scored.pred_score.reshape(-1),
        "loss": FastflowLoss()(latents, determinants),
    }


def cflow(question: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    model = CflowModel("resnet18", layers=question["layers"], pre_trained=False, **question["settings"]).eval()
    fill(model.encoder.feature_extractor, "backbone.", tensors)
    fill(model.decoders, "flow.", tensors)
    likelihoods: list[Tensor] = []
    generator = model.anomaly_map_generator
    whole = generator.compute_anomaly_map

    def record_likelihoods(distribution: list[Tensor], *arguments: Any) -> Tensor:
        likelihoods.extend(distribution)
        return whole(distribution, *arguments)

    generator.compute_anomaly_map = record_likelihoods
    scored = model(tensors["images"])
    answer = {f"likelihood{number}": values.clone() for number, values in enumerate(likelihoods)}
    alone = torch.cat([model(image[None]).pred_score for image in tensors["images"]])
    return answer | {"map": scored.anomaly_map, "score": scored.pred_score, "score_alone": alone}


def cs_flow(question: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    from torchvision.models import efficientnet_b5

    # It downloads ImageNet's weights otherwise.
    csflow_model.efficientnet_b5 = functools.partial(_create_without_weights, efficientnet_b5)
    model = csflow_model.CsFlowModel(tuple(tensors["images"].shape[-2:]), **question["settings"]).eval()
    fill(model.feature_extractor.feature_extractor.feature_extractor, "backbone.", tensors)
    blocks = model.graph.graph.module_list
    for number, block in enumerate(
        block for block in blocks if isinstance(block, csflow_model.ParallelGlowCouplingLayer)
    ):
        fill(block, f"flow.{number}.", tensors)
    for number, block in enumerate(block for block in blocks if isinstance(block, csflow_model.ParallelPermute)):
        block.perm = [tensors[f"permutation.{number}"]] * 3
    scored = model(tensors["images"])
    model.train()
    model.feature_extractor.eval()
    latents, determinant = model(tensors["images"])
    alone = torch.stack([model(image[None])[1].reshape(()) for image in tensors["images"]])
    answer = {f"z{number}": z for number, z in enumerate(latents)} | {
        "determinant": determinant,
        "determinants_alone": alone,
    }
    return answer | {
        "map": scored.anomaly_map[:, 0],
        "score": scored.pred_score,
        "loss": CsFlowLoss()(latents, determinant),
    }


def _create_without_weights(make: Any, weights: Any) -> nn.Module:
    return make(weights=None)


@torch.no_grad()
def answer(folder: Path) -> None:
    question = json.loads((folder / "question.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "question.safetensors")
    torch.set_num_threads(question["threads"])
    answered = {"fastflow": fastflow, "cflow": cflow, "cs_flow": cs_flow}[question["method"]](question, tensors)
    save_file({name: tensor.clone().contiguous() for name, tensor in answered.items()}, folder / "answer.safetensors")


if __name__ == "__main__":
    answer(Path(sys.argv[1]))
