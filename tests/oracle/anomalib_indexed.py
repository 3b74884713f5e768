"""anomalib's own networks with this project's weights and index. Run by the interpreter of an environment that has
anomalib, not by the project's.

    python anomalib_indexed.py QUESTION_FOLDER

The folder holds `question.json` and `question.safetensors`; `answer.safetensors` is written beside them. Images come
normalised to [0, 1] and sized.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from anomalib.data.utils import read_image
from anomalib.metrics.aupro import _AUPRO
from anomalib.metrics.auroc import _AUROC
from anomalib.models import Dfm, Padim, Patchcore
from anomalib.models.components import KCenterGreedy
from safetensors.torch import load_file, save_file
from torch import Tensor


def create(question: dict[str, Any]) -> Any:
    """The Lightning module with the weights in its timm backbone."""
    plain = {"backbone": "resnet18", "pre_trained": False}
    layers = question["layers"]
    module: Any = {
        "patchcore": lambda: Patchcore(**plain, layers=layers, num_neighbors=9),
        "padim": lambda: Padim(**plain, layers=layers, n_features=question.get("channels", 100)),
        "dfm": lambda: Dfm(**plain, layer=layers[0], pooling_kernel_size=question.get("pool", 2)),
    }[question["method"]]()
    network = module.model.feature_extractor.feature_extractor
    missing, _ = network.load_state_dict(torch.load(question["weights"], weights_only=True), strict=False)
    assert all(key.endswith("num_batches_tracked") for key in missing), missing
    return module


def patchcore(model: Any, images: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    model.memory_bank = tensors["memory_bank"]
    features = {layer: model.feature_pooler(feature) for layer, feature in model.feature_extractor(images).items()}
    embedding = model.generate_embedding(features)
    grid = embedding.shape[-2:]
    distances, _ = model.nearest_neighbors(model.reshape_embedding(embedding), n_neighbors=1)
    distances = distances.reshape(len(images), 1, *grid)
    # Its map is upsampled by repetition; the same smoothing of the paper's bilinear interpolation is what ours is held
    # against.
    bilinear = F.interpolate(distances, size=images.shape[-2:], mode="bilinear", align_corners=False)
    answer = {
        "embedding": embedding,
        "bilinear_map": model.anomaly_map_generator.blur(bilinear)[:, 0],
        "distances": distances[:, 0],
    }
    return answer | {"chosen": greedy(tensors["points"], int(tensors["chosen"][0]), len(tensors["chosen"]))}


def greedy(points: Tensor, first: int, count: int) -> Tensor:
    """Its greedy selection on our projected points, from our first point."""
    sampler = KCenterGreedy(points, sampling_ratio=count / len(points))
    sampler.features = points
    chosen = [torch.tensor(first)]
    for _ in range(count - 1):
        sampler.update_distances(chosen[-1])
        chosen.append(sampler.get_new_idx())
    return torch.stack(chosen)


def padim(model: Any, images: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    model.idx = tensors["channels"]
    embedding = model.generate_embedding(model.feature_extractor(images))
    # Its own Gaussians of our embeddings of the normals, then ours in its network.
    mean, inverse = model.gaussian.fit(tensors["normals"])
    model.gaussian.mean, model.gaussian.inv_covariance = tensors["mean"], tensors["inverse_covariance"]
    return {
        "embedding": embedding,
        "fitted_mean": mean,
        "fitted_covariance": torch.linalg.inv(inverse.double()).float(),
    }


def dfm(model: Any, images: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    embedding, _ = model.get_features(images)
    model.pca_model.n_components = int(tensors["components"].shape[0])
    model.pca_model.fit(tensors["normals"].clone())
    fitted = model.pca_model.singular_vectors.T.clone()
    model.pca_model.n_components = float(tensors["variance"])
    model.pca_model.fit(tensors["normals"].clone())
    kept = model.pca_model.singular_vectors.shape[1]
    model.pca_model.mean, model.pca_model.singular_vectors = tensors["mean"], tensors["components"].T.contiguous()
    return {"embedding": embedding.clone(), "fitted_components": fitted, "kept": torch.tensor(kept)}


def metrics(scores: Tensor, masks: Tensor) -> Tensor:
    """Its pixel AUROC and AUPRO of maps [N, h, w] in [0, 1] (it would squash others with a sigmoid) against masks [N,
    h, w]."""
    auroc, aupro = _AUROC(), _AUPRO(fpr_limit=0.3)
    auroc.update(scores, masks.int())
    aupro.update(scores, masks.int())
    return torch.stack([auroc.compute(), aupro.compute()])


@torch.no_grad()
def answer(folder: Path) -> None:
    question = json.loads((folder / "question.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "question.safetensors")
    torch.set_num_threads(question["threads"])
    module = create(question)
    transform = type(module).configure_pre_processor(image_size=tuple(tensors["images"].shape[-2:])).transform
    normalise = transform.transforms[-1]
    model, images = module.model.eval(), normalise(tensors["images"])
    answered = {"patchcore": patchcore, "padim": padim, "dfm": dfm}[question["method"]](model, images, tensors)
    output = model(images.clone())
    answered |= {
        "score": output.pred_score.reshape(-1),
        "map": output.anomaly_map.reshape(len(images), *images.shape[-2:]),
    }
    answered["prepared"] = torch.stack([transform(read_image(path, as_tensor=True)) for path in question["paths"]])
    answered["own_prepared"] = normalise(tensors["images"][: len(question["paths"])])
    answered["metrics"] = metrics(tensors["scaled_maps"], tensors["masks"])
    save_file({name: tensor.contiguous() for name, tensor in answered.items()}, folder / "answer.safetensors")


if __name__ == "__main__":
    answer(Path(sys.argv[1]))
