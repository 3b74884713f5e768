"""Decide on frames as a camera delivers them: one numpy array at a time, one decision before the next frame.

    python examples/stream.py runs/bolt-.../bundle

Replace `frames` with your camera's driver. A frame is uint8 RGB, [height, width, 3]. OpenCV delivers
BGR: reverse the last axis.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vqi.deployment.predictor import Prediction, Predictor, Unreadable
from vqi.platform.errors import VqiError


def frames(count: int = 5, height: int = 240, width: int = 320) -> Iterator[np.ndarray]:
    """Grey noise in place of a camera: uint8 [height, width, 3]."""
    random = np.random.default_rng(0)
    for _ in range(count):
        yield random.integers(90, 130, (height, width, 3), dtype=np.uint8)


def decisions(bundle: Path, camera: Iterable[np.ndarray]) -> Iterator[tuple[Prediction | Unreadable, float]]:
    """The result of every frame, and the seconds it took from frame to decision.

    `Predictor.predict` reads ahead to be fast on files. Here it gets one frame at a time, so that no decision waits for
    the next frame.
    """
    predictor = Predictor(bundle, batch_size=1)
    for frame in camera:
        started = time.perf_counter()
        result = next(iter(predictor.predict([frame])))
        yield result, time.perf_counter() - started


def main(bundle: Path) -> None:
    """Print one line for each frame."""
    for number, (result, seconds) in enumerate(decisions(bundle, frames())):
        if isinstance(result, Unreadable):
            # A part that nobody could judge must not pass as good.
            print(f"frame {number}: stop the part: {result.reason}")
        else:
            print(f"frame {number}: {result.decision}, score {result.score:.4f}, {1000 * seconds:.0f} ms")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python examples/stream.py BUNDLE")
    try:
        main(Path(sys.argv[1]))
    except VqiError as error:
        sys.exit(f"stream: {error}")
