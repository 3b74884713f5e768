"""anomalib's own DRÆM with this project's weights. Run by the interpreter of an environment that has anomalib, not by
the project's.

    python anomalib_draem.py QUESTION_FOLDER

The folder holds `question.json` and `question.safetensors`: `images`, `simulated`, `mask`, our `reconstruction`, and
our state by network and number of the layer. `answer.safetensors` is written beside them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from anomalib.models.image.draem.loss import DraemLoss
from anomalib.models.image.draem.torch_model import DraemModel
from kornia.metrics import ssim
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def fill(network: nn.Module, part: str, tensors: dict[str, Tensor]) -> None:
    """Give every layer with weights those of ours with its number. Its convolutions have biases that normalisation
    takes away: zero, as ours."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    assert len(layers) == len({name.split(".")[1] for name in tensors if name.startswith(part)}), part
    for number, layer in enumerate(layers):
        state = {name.split(".")[2]: value for name, value in tensors.items() if name.startswith(f"{part}.{number}.")}
        if "bias" not in state:
            state["bias"] = torch.zeros_like(layer.bias)
        layer.load_state_dict(state)


@torch.no_grad()
def answer(folder: Path) -> None:
    question = json.loads((folder / "question.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "question.safetensors")
    torch.set_num_threads(question["threads"])
    model = DraemModel(sspcab=question["sspcab"])
    fill(model.reconstructive_subnetwork, "reconstructive", tensors)
    fill(model.discriminative_subnetwork, "discriminative", tensors)
    answered = {}
    if question["sspcab"]:
        block = model.reconstructive_subnetwork.encoder.block5
        answered["map_without_relu"] = model.eval()(tensors["images"]).anomaly_map
        block.attention_module = nn.Sequential(nn.ReLU(), block.attention_module)
    scored = model.eval()(tensors["images"])
    answered |= {
        "reconstruction": model.reconstructive_subnetwork(tensors["images"]),
        "map": scored.anomaly_map,
        "score": scored.pred_score,
    }
    # The last convolution is linear: so many times as sure.
    head = [layer for layer in model.discriminative_subnetwork.modules() if isinstance(layer, nn.Conv2d)][-1]
    for parameter in head.parameters():
        parameter *= question["sure"]
    answered["sure_map"] = model(tensors["images"]).anomaly_map
    for parameter in head.parameters():
        parameter /= question["sure"]
    reconstruction, prediction = model.train()(tensors["simulated"])
    loss = DraemLoss()
    answered |= {
        "l2": loss.l2_loss(reconstruction, tensors["images"]),
        "focal": loss.focal_loss(prediction, tensors["mask"][:, 0].long()),
        "ssim": 2 * loss.ssim_loss(reconstruction, tensors["images"]),
        # In float64, of our reconstructions: a variance is a difference of two means and loses digits where an image is
        # flat.
        "similarity": ssim(tensors["reconstruction"].double(), tensors["images"].double(), window_size=11),
    }
    save_file({name: tensor.contiguous() for name, tensor in answered.items()}, folder / "answer.safetensors")


if __name__ == "__main__":
    answer(Path(sys.argv[1]))
