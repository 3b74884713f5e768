"""A run in a process of its own, to be killed: `python killed_run.py CHECKPOINTS STEPS SECONDS_A_STEP [MEGABYTES]`; prints lines `step`, then a hash.

MEGABYTES: that much more in every checkpoint, which an object store is sent in the smallest parts it takes.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from toy_learner import ToyImages, ToyLearner

from vqi.detectors.settings import Budget
from vqi.platform import object_store
from vqi.platform.devices import Compute
from vqi.training.checkpoints import Checkpoints
from vqi.training.loop import Loop
from vqi.training.settings import TrainSettings


class Slow(ToyLearner):
    def loss(self, views):  # type: ignore[no-untyped-def]
        time.sleep(float(sys.argv[3]))
        print("step", flush=True)
        return super().loss(views)


def main() -> None:
    learner, images = Slow(), ToyImages(21)
    if len(sys.argv) > 4:
        object_store.PART_SIZE = 5 << 20
        learner.register_buffer("ballast", torch.rand(int(sys.argv[4]) << 18, generator=torch.Generator().manual_seed(1)))
    kept = Checkpoints(sys.argv[1], "run", 2)
    loop = Loop(
        learner,
        images,
        name="toy",
        settings=TrainSettings(max_steps=int(sys.argv[2]), batch_size=4),
        budget=Budget(batch_size=4, epochs=1),
        compute=Compute(),
        seed=3,
        checkpoints=kept,
        checkpoint_seconds=0.0,
    )
    loop.run(images)
    state = b"".join(value.numpy().tobytes() for value in learner.state_dict().values())
    print(hashlib.sha256(state).hexdigest(), flush=True)


if __name__ == "__main__":
    main()
