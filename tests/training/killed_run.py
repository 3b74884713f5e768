"""A run in a process of its own, to be killed: `python killed_run.py CHECKPOINTS STEPS SECONDS_A_STEP [MEGABYTES]`;
prints lines `step`, then a hash.

MEGABYTES: that much more in every checkpoint, which an object store is sent in the smallest parts it takes.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from torch import Tensor
from toy_learner import ToyImages, ToyLearner

from vqi.detectors.learner import Views
from vqi.detectors.settings import Budget
from vqi.platform.devices import Compute
from vqi.storage import object_store
from vqi.training.checkpoints import Checkpoints
from vqi.training.loop import Loop
from vqi.training.settings import TrainSettings


class Slow(ToyLearner):
    pause = 0.0

    def loss(self, views: Views) -> dict[str, Tensor]:
        time.sleep(self.pause)
        print("step", flush=True)
        return super().loss(views)


def resumable(checkpoints: str, steps: int, pause: float = 0.0, megabytes: int = 0) -> str:
    """Run it, or go on with it, and return the hash of the weights it ends in."""
    learner, images = Slow(), ToyImages(21)
    learner.pause = pause
    if megabytes:
        learner.register_buffer("ballast", torch.rand(megabytes << 18, generator=torch.Generator().manual_seed(1)))
    loop = Loop(
        learner,
        images,
        name="toy",
        settings=TrainSettings(max_steps=steps, batch_size=4),
        budget=Budget(batch_size=4, epochs=1),
        compute=Compute(),
        seed=3,
        checkpoints=Checkpoints(checkpoints, "run", 2),
        checkpoint_seconds=0.0,
    )
    loop.run(images)
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in learner.state_dict().values())).hexdigest()


if __name__ == "__main__":
    megabytes = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    if megabytes:
        object_store.PART_SIZE = 5 << 20
    print(resumable(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), megabytes), flush=True)
