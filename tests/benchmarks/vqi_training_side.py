"""A step of this project's training whenever a line comes in: METHOD BATCH SIDE PRECISION (see training_speed.py).

PRECISION `limit` is none: the time that the step's products and convolutions would take in float32, were each as fast
as a large matrix product.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch.utils.flop_counter import FlopCounterMode

from vqi.detectors.compute import to_device
from vqi.detectors.learner import Learner, Schedule
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.platform.devices import Compute

SQUARE = 2048


class Images:
    """A few random images: normals, where a method wants statistics before it learns, and efficient_ad's penalty
    images."""

    labels = None

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def load(self, numbers: Sequence[int]) -> torch.Tensor:
        return self.images[list(numbers)]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self):
        yield self.images


def main() -> None:
    method, batch, side, precision = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    layers = {"layers": ("layer1", "layer2", "layer3")} if method in ("stfpm", "fastflow", "cflow") else {}
    backbone = (
        {"name": "efficientnet_b5", "layers": ("features.6.8",)}
        if method == "cs_flow"
        else {"name": "resnet18"} | layers
    )
    detector = to_device(
        create(method, {}, BackboneSettings(weights="random", **backbone), (side, side), 0),
        Compute(precision="bfloat16" if precision == "bfloat16" else "float32"),
    )
    learner = cast(Learner, detector)
    images = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
    learner.prepare(Images(images))
    if method == "efficient_ad":
        learner.extra = Images(images)
    schedule = Schedule(1000, 100, batch)
    learner.begin_epoch(0, schedule)
    detector.train()
    optimisation = learner.optimisation(schedule)
    learned = [value for group in optimisation.optimiser.param_groups for value in group["params"]]
    random = torch.Generator().manual_seed(0)

    def step() -> None:
        with torch.no_grad():
            views = learner.views(images, None, random)
        for mini_batch in learner.mini_batches(views):
            optimisation.optimiser.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                loss = learner.loss(mini_batch)["loss"]
            loss.backward()
            if optimisation.clip:
                torch.nn.utils.clip_grad_norm_(learned, optimisation.clip)
            optimisation.optimiser.step()

    timed, share = bound_by_product(step) if precision == "limit" else (step, 1.0)
    print("step ready", flush=True)
    for _ in sys.stdin:
        started, processor = time.perf_counter(), time.process_time()
        timed()
        print(f"step {share * (time.perf_counter() - started)} {share * (time.process_time() - processor)}", flush=True)


def bound_by_product(step: Callable[[], None]) -> tuple[Callable[[], object], float]:
    """A product of two square matrices, and how many of them are as many operations as one call of `step`."""
    with FlopCounterMode(display=False) as counter:
        step()
    left, right = torch.rand(2, SQUARE, SQUARE)
    return lambda: torch.mm(left, right), counter.get_total_flops() / (2 * SQUARE**3)


if __name__ == "__main__":
    main()
