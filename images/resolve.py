"""Writes images/requirements: what each stage of the Dockerfile installs, exact and whole, from pyproject.toml at the
pins of constraints.txt.

A file a stage, so that a change of one pin rebuilds the layers that hold it and no others. `make pins` runs it; it
needs uv and a package index.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "images" / "requirements"
# The extra of pyproject.toml that a stage installs; the stages below it leave little of it to do.
EXTRAS = {
    "data": "check-dataset",
    "predict": "predict",
    "serve": "serve",
    "watch": "watch",
    "tracking": "tracking",
    "compare": "compare",
    "mlflow": "tracking-server",
    "train": "train",
    "build-index": "build-index",
    "evaluate": "evaluate",
    "export": "export",
}
# torch has a layer of its own. triton compiles for GPUs alone, 689 MB that no step touches; CUDA's libraries cannot go,
# as torch does not load without them.
TORCH = re.compile(r"(torch|torchvision)==")
CUDA = re.compile(r"(nvidia-|cuda-)")
LEFT_OUT = re.compile(r"triton==")
# Wheels alone, without what they ask for: a running step imports nothing of that.
ALONE = dict.fromkeys(("data", "compare", "train"), ("kfp",))


def resolved(extra: str) -> list[str]:
    """The pins of an extra and of all it needs, by uv."""
    command = [
        "uv",
        "pip",
        "compile",
        "pyproject.toml",
        "--extra",
        extra,
        "-c",
        "constraints.txt",
        "--python-version",
        "3.11",
    ]
    output = subprocess.run(
        [*command, "--no-header", "--no-annotate", "--quiet"], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE
    ).stdout
    return [line for line in output.splitlines() if "==" in line]


def requirement_files() -> dict[str, list[str]]:
    """The lines of each file by its name without suffix."""
    pinned = {line.split("==")[0]: line for line in (ROOT / "constraints.txt").read_text().splitlines()}
    trained = resolved("train")
    files = {
        "torch": [line for line in trained if TORCH.match(line)],
        "torch-cuda": [line for line in trained if CUDA.match(line)],
    }
    for stage, extra in EXTRAS.items():
        lines = [line for line in resolved(extra) if not any(left.match(line) for left in (TORCH, CUDA, LEFT_OUT))]
        files[stage] = sorted({*lines, *(pinned[name] for name in ALONE.get(stage, ()))})
    return files


def main() -> None:
    REQUIREMENTS.mkdir(exist_ok=True)
    for stage, lines in requirement_files().items():
        (REQUIREMENTS / f"{stage}.txt").write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
