"""A step of anomalib's training whenever a line comes in: METHOD BATCH SIDE (see training_speed.py). Needs anomalib 2.7
and nothing of this project.

The steps are those of its Lightning modules, without Lightning.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F


def stfpm(batch: int, side: int) -> Callable[[torch.Tensor], None]:
    from anomalib.models.image.stfpm import torch_model
    from anomalib.models.image.stfpm.loss import STFPMLoss

    extractor = torch_model.TimmFeatureExtractor
    torch_model.TimmFeatureExtractor = lambda pre_trained, **rest: extractor(pre_trained=False, **rest)
    model, loss = (
        torch_model.STFPMModel(layers=["layer1", "layer2", "layer3"], backbone="resnet18").train(),
        STFPMLoss(),
    )
    model.teacher_model.eval()
    optimiser = torch.optim.SGD(model.student_model.parameters(), lr=0.4, momentum=0.9, weight_decay=1e-3)
    return plain(optimiser, lambda images: loss(*model(images)))


def fastflow(batch: int, side: int) -> Callable[[torch.Tensor], None]:
    from anomalib.models.image.fastflow.loss import FastflowLoss
    from anomalib.models.image.fastflow.torch_model import FastflowModel

    model, loss = FastflowModel((side, side), "resnet18", pre_trained=False).train(), FastflowLoss()
    return plain(torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5), lambda images: loss(*model(images)))


def cflow(batch: int, side: int) -> Callable[[torch.Tensor], None]:
    import einops
    from anomalib.models.image.cflow.torch_model import CflowModel
    from anomalib.models.image.cflow.utils import get_logp, positional_encoding_2d

    model = CflowModel("resnet18", layers=["layer1", "layer2", "layer3"], pre_trained=False)
    optimiser = torch.optim.Adam([value for decoder in model.decoders for value in decoder.parameters()], lr=1e-4)

    def step(images: torch.Tensor) -> None:
        maps = model.encoder(images)
        for layer, decoder in zip(model.pool_layers, model.decoders, strict=True):
            features = maps[layer].detach()
            count, channels, height, width = features.size()
            position = einops.repeat(
                positional_encoding_2d(128, height, width).unsqueeze(0), "b c h w -> (tile b) c h w", tile=count
            )
            conditions, vectors = (einops.rearrange(values, "b c h w -> (b h w) c") for values in (position, features))
            order = torch.randperm(len(vectors))
            for chosen in order[: len(order) // 64 * 64].split(64):
                optimiser.zero_grad()
                latent, log_jacobian = decoder(vectors[chosen], [conditions[chosen]])
                loss = -F.logsigmoid(get_logp(channels, latent, log_jacobian) / channels)
                loss.mean().backward()
                optimiser.step()

    return step


def cs_flow(batch: int, side: int) -> Callable[[torch.Tensor], None]:
    from anomalib.models.image.csflow import torch_model
    from anomalib.models.image.csflow.loss import CsFlowLoss

    maker = torch_model.efficientnet_b5
    torch_model.efficientnet_b5 = lambda weights: maker(weights=None)
    model, loss = torch_model.CsFlowModel((side, side), cross_conv_hidden_channels=1024).train(), CsFlowLoss()
    model.feature_extractor.eval()
    optimiser = torch.optim.Adam(model.graph.parameters(), lr=2e-4, eps=1e-4, weight_decay=1e-5)

    def value(images: torch.Tensor) -> torch.Tensor:
        return loss(*model(images))

    return plain(optimiser, value, clip=[*model.graph.parameters()])


def efficient_ad(batch: int, side: int) -> Callable[[torch.Tensor], None]:
    from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel

    model = EfficientAdModel().train()
    optimiser = torch.optim.Adam([*model.student.parameters(), *model.ae.parameters()], lr=1e-4, weight_decay=1e-5)
    return plain(optimiser, lambda images: sum(model(batch=images, batch_imagenet=images)))


def draem(batch: int, side: int) -> Callable[[torch.Tensor], None]:
    from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator
    from anomalib.models.image.draem.loss import DraemLoss
    from anomalib.models.image.draem.torch_model import DraemModel

    model, loss, simulate = DraemModel().train(), DraemLoss(), PerlinAnomalyGenerator(blend_factor=(0.1, 1.0))

    def value(images: torch.Tensor) -> torch.Tensor:
        simulated, mask = simulate(images)
        reconstruction, prediction = model(simulated)
        return loss(images, reconstruction, mask, prediction)

    return plain(torch.optim.Adam(model.parameters(), lr=1e-4), value)


def plain(
    optimiser: torch.optim.Optimizer, value: Callable, clip: list | None = None
) -> Callable[[torch.Tensor], None]:
    """A step that follows the gradient of `value`."""

    def step(images: torch.Tensor) -> None:
        optimiser.zero_grad()
        value(images).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(clip, 1)
        optimiser.step()

    return step


def main() -> None:
    method, batch, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.manual_seed(0)
    step = {
        "stfpm": stfpm,
        "fastflow": fastflow,
        "cflow": cflow,
        "cs_flow": cs_flow,
        "efficient_ad": efficient_ad,
        "draem": draem,
    }[method](batch, side)
    images = torch.rand(batch, 3, side, side)
    print("step ready", flush=True)
    for _ in sys.stdin:
        started, processor = time.perf_counter(), time.process_time()
        step(images)
        print(f"step {time.perf_counter() - started} {time.process_time() - processor}", flush=True)


if __name__ == "__main__":
    main()
