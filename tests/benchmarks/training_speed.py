"""Training speed side by side with anomalib: one optimiser step of ours, one of theirs, one of ours in bfloat16, and
again, in one run.

    python tests/benchmarks/training_speed.py --anomalib-python SCRATCH/bin/python [--only stfpm ...] [--rounds 5] [--threads 2] [--json FILE]

A step is what training does with a batch that is decoded: views or simulated anomalies, forward, backward, the
optimiser. Both sides have the same networks of random weights, image size and batch; cflow's step is all of a batch's
positions, 64 an optimiser step. The sides take turns, so that whatever else the machine does falls on all alike;
medians and their ratios are printed and never asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Batch and side of the image: the paper's side, and a batch that a laptop's memory holds.
METHODS = {
    "stfpm": (8, 256),
    "fastflow": (8, 256),
    "cflow": (1, 256),
    "cs_flow": (2, 256),
    "efficient_ad": (1, 256),
    "draem": (4, 128),
}
# What a process of ours does: its precision, or `limit` (see vqi_training_side.py).
MODES = {"ours": "float32", "ours, bfloat16": "bfloat16", "limit": "limit"}


class Side:
    """A process that makes a step whenever it is told to."""

    def __init__(self, name: str, command: list[str], threads: int) -> None:
        self.name, self.seconds, self.processor_seconds = name, list[float](), list[float]()
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._answer()

    def step(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        wall, processor = map(float, self._answer().split())
        self.seconds.append(wall)
        self.processor_seconds.append(processor)

    def _answer(self) -> str:
        """What it says next; what else it or its libraries print is passed over."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("step "):
                return line.removeprefix("step ")
        assert self.process.stderr is not None
        raise SystemExit(f"{self.name} ended: {self.process.stderr.read()[-2000:]}")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def measure(
    method: str,
    anomalib: str | None,
    rounds: int,
    threads: int,
    shape: tuple[int, int] | None = None,
    modes: Sequence[str] = ("ours", "ours, bfloat16"),
) -> dict[str, object]:
    """Median seconds of a step of each side, and images a second of ours as multiples of anomalib's, where an
    interpreter that has it is named. `shape`: batch and side of the image in place of those of METHODS; `modes` of our
    own: keys of MODES."""
    batch, side = shape or METHODS[method]
    setup = [method, str(batch), str(side)]
    sides = [Side("anomalib", [anomalib, str(HERE / "anomalib_training_side.py"), *setup], threads)] if anomalib else []
    try:
        for mode in modes:
            command = [sys.executable, str(HERE / "vqi_training_side.py"), *setup, MODES[mode]]
            sides.append(Side(mode, command, threads))
        for _ in range(rounds + 1):
            for one in sides:
                one.step()
    finally:
        for one in sides:
            one.end()
    median = {one.name: statistics.median(one.seconds[1:]) for one in sides}  # the first warms up
    processor = {one.name: statistics.median(one.processor_seconds[1:]) for one in sides}
    ratios = {name: median["anomalib"] / seconds for name, seconds in median.items() if name != "anomalib" and anomalib}
    return {
        "method": method,
        "batch": batch,
        "side": side,
        "threads": threads,
        "seconds": median,
        "processor_seconds": processor,
        "speed_against_anomalib": ratios,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anomalib-python", required=True)
    parser.add_argument("--only", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = []
    print(f"{'method':14}{'batch':>6}{'side':>6}{'anomalib, s':>13}{'ours, s':>10}{'x':>6}{'bfloat16, s':>13}{'x':>6}")
    for method in arguments.only:
        measurement = measure(method, arguments.anomalib_python, arguments.rounds, arguments.threads)
        seconds, ratios = measurement["seconds"], measurement["speed_against_anomalib"]
        assert isinstance(seconds, dict)
        assert isinstance(ratios, dict)
        print(
            f"{method:14}{measurement['batch']:>6}{measurement['side']:>6}{seconds['anomalib']:>13.3f}{seconds['ours']:>10.3f}{ratios['ours']:>6.2f}"
            f"{seconds['ours, bfloat16']:>13.3f}{ratios['ours, bfloat16']:>6.2f}",
            flush=True,
        )
        results.append(measurement)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
