"""Decide on photographs with a bundle, from Python: no torch, no command line.

python examples/predict.py runs/bolt-.../bundle new-photos/*.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from vqi.deployment.predictor import Predictor, Unreadable
from vqi.platform.errors import VqiError


def main(bundle: Path, photographs: list[Path]) -> int:
    """Print one line for each photograph, and return the exit code: 0 all good, 1 one that is not, 2 one that is
    unreadable."""
    predictor = Predictor(bundle)
    print(f"threshold {predictor.sidecar.thresholds.image:.4f}: {predictor.sidecar.calibration.guarantee}")
    code = 0
    for result in predictor.predict(photographs):
        if isinstance(result, Unreadable):
            print(f"unreadable  {result.reason}")
            code = 2
        else:
            regions = " ".join(f"{x1},{y1},{x2},{y2}" for x1, y1, x2, y2, _ in result.boxes)
            print(f"{result.decision:10}  {result.score:8.4f}  {result.name}  {regions}".rstrip())
            code = max(code, int(result.decision != "good"))
    return code


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("Usage: python examples/predict.py BUNDLE PHOTOGRAPH...")
    try:
        sys.exit(main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]))
    except VqiError as error:
        sys.exit(f"predict: {error}")
