"""anomalib's own STFPM and EfficientAD with this project's weights. Run by the interpreter of an environment that has
anomalib, not by the project's.

    python anomalib_students.py QUESTION_FOLDER

The folder holds `question.json` and `question.safetensors`: `images`, of EfficientAD also `normals` and what the losses
are of, and our state. `answer.safetensors` is written beside them.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from anomalib.models.image.efficient_ad.lightning_model import EfficientAd
from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel, EfficientAdModelSize
from anomalib.models.image.stfpm import torch_model as stfpm_model
from anomalib.models.image.stfpm.loss import STFPMLoss
from safetensors.torch import load_file, save_file
from torch import Tensor


def stfpm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # Its teacher would be downloaded.
    extractor = stfpm_model.TimmFeatureExtractor
    stfpm_model.TimmFeatureExtractor = lambda pre_trained, **rest: extractor(pre_trained=False, **rest)
    model = stfpm_model.STFPMModel(layers=["layer1", "layer2", "layer3"], backbone="resnet18").eval()
    for name, network in (("teacher.", model.teacher_model), ("student.", model.student_model)):
        state = {key.removeprefix(name): value for key, value in tensors.items() if key.startswith(name)}
        missing, unexpected = network.feature_extractor.load_state_dict(state, strict=False)
        assert not unexpected, unexpected
        assert all(key.endswith("num_batches_tracked") for key in missing), missing
    output = model(tensors["images"])
    features = model.teacher_model(tensors["images"]), model.student_model(tensors["images"])
    return {"map": output.anomaly_map[:, 0], "score": output.pred_score[:, 0], "loss": STFPMLoss()(*features)}


def efficient_ad(tensors: dict[str, Tensor], size: str) -> dict[str, Tensor]:
    model = EfficientAdModel(model_size=EfficientAdModelSize(size)).eval()
    for name, network in (("teacher.", model.teacher), ("student.", model.student)):
        network.load_state_dict(
            {key.removeprefix(name): value for key, value in tensors.items() if key.startswith(name)}
        )
    # Its layers are called otherwise and come in the same order.
    for part, network, prefix in (("encoder", model.ae.encoder, "enconv"), ("decoder", model.ae.decoder, "deconv")):
        ours = {
            key.removeprefix(f"autoencoder.{part}."): value
            for key, value in tensors.items()
            if key.startswith(f"autoencoder.{part}.")
        }
        network.load_state_dict(
            {f"{prefix}{int(key.split('.')[0]) + 1}.{key.split('.')[1]}": value for key, value in ours.items()}
        )

    normals = [SimpleNamespace(image=batch, gt_label=torch.zeros(len(batch))) for batch in tensors["normals"].split(4)]
    quantiles_of_maps = partial(EfficientAd._get_quantiles_of_maps, SimpleNamespace(device="cpu"))
    module = SimpleNamespace(model=model, device="cpu", _get_quantiles_of_maps=quantiles_of_maps)
    statistics = EfficientAd.teacher_channel_mean_std(module, normals)
    # From here on with our statistics, so that each comparison stands alone.
    model.mean_std.update({"mean": tensors["teacher_mean"], "std": tensors["teacher_std"]})
    their_quantiles = EfficientAd.map_norm_quantiles(module, normals)
    quantiles = tensors["quantiles"]
    model.quantiles.update(
        {"qa_st": quantiles[0, 0], "qb_st": quantiles[0, 1], "qa_ae": quantiles[1, 0], "qb_ae": quantiles[1, 1]}
    )
    output = model(tensors["images"])
    of_teacher, of_autoencoder = model.get_maps(tensors["images"], normalize=False)

    model.choose_random_aug_image = lambda image: tensors["view.augmented"]
    _, distance = model.compute_student_teacher_distance(tensors["view.images"])
    losses = model.compute_losses(tensors["view.images"], tensors["view.penalty"], distance)
    return {
        "teacher_mean": statistics["mean"],
        "teacher_std": statistics["std"],
        "quantiles": torch.stack(
            [
                torch.stack([their_quantiles["qa_st"], their_quantiles["qb_st"]]),
                torch.stack([their_quantiles["qa_ae"], their_quantiles["qb_ae"]]),
            ]
        ),
        "map_of_teacher": of_teacher[:, 0],
        "map_of_autoencoder": of_autoencoder[:, 0],
        "map": output.anomaly_map[:, 0],
        "score": output.pred_score[:, 0],
        **dict(zip(("student_teacher", "autoencoder", "student_autoencoder"), losses, strict=True)),
    }


@torch.no_grad()
def answer(folder: Path) -> None:
    question = json.loads((folder / "question.json").read_text(encoding="utf-8"))
    torch.set_num_threads(question["threads"])
    method, *arguments = question["method"].split()
    answered = {"stfpm": stfpm, "efficient_ad": efficient_ad}[method](
        load_file(folder / "question.safetensors"), *arguments
    )
    save_file({name: tensor.contiguous() for name, tensor in answered.items()}, folder / "answer.safetensors")


if __name__ == "__main__":
    answer(Path(sys.argv[1]))
