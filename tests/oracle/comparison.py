"""What every oracle needs: photographs, anomalib's answer to a question, and how far it is from ours."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vqi.batches.tensors import TensorBatches
from vqi.dataset.geometry import Geometry
from vqi.dataset.reader import Dataset

HERE = Path(__file__).resolve().parent
THREADS = 2
# Both sides compute in float32 in different orders; distances of near neighbours lose digits in anomalib's expanded
# form.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Comparison:
    """What was compared, how far apart it is, and how far it may be (None: it differs on purpose, `reason` says
    why)."""

    what: str
    difference: float
    tolerance: float | None = TOLERANCE
    reason: str = ""

    @property
    def agrees(self) -> bool:
        """What differs on purpose must differ: a reason that no longer holds is none."""
        return self.difference > TOLERANCE if self.tolerance is None else self.difference <= self.tolerance

    def __str__(self) -> str:
        if self.tolerance is None:
            verdict = "differs on purpose" if self.agrees else "DOES NOT DIFFER"
        else:
            verdict = "ok" if self.agrees else "DISAGREES"
        bound = "" if self.tolerance is None else f" (<= {self.tolerance:.0e})"
        return f"  {self.what:56} {self.difference:.1e}{bound:12} {verdict}{': ' + self.reason if self.reason else ''}"


def compared(
    what: str, ours: Tensor, theirs: Tensor, tolerance: float | None = TOLERANCE, reason: str = ""
) -> Comparison:
    """Difference of two tensors of one shape, relative to anomalib's spread, so that no constant hides it; of one
    value, to that."""
    if ours.shape != theirs.shape:
        raise SystemExit(f"{what}: our shape is {list(ours.shape)}, anomalib's {list(theirs.shape)}.")
    ours, theirs = ours.double(), theirs.double()
    size = theirs.max() - theirs.min() if theirs.numel() > 1 else theirs.abs().max()
    difference = float((ours - theirs).abs().max() / size)
    return Comparison(what, difference, tolerance, reason)


def under(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """A module's state below a prefix."""
    return {f"{prefix}.{name}": value for name, value in module.state_dict().items()}


@dataclass(frozen=True)
class Oracle:
    """anomalib's networks in an interpreter of their own, and the photographs that both sides are asked about.

    `source` is the folder that became `dataset`. Where `spoil` is not empty, whatever anomalib is given by a name that
    contains it is given wrong.
    """

    python: Path
    source: Path
    dataset: Dataset
    weights: Path
    folder: Path
    spoil: str = ""

    def photographs(self, split: str, count: int, geometry: Geometry) -> Tensor:
        """Some, evenly spread over the split: float32 [count, 3, H, W] in [0, 1]."""
        samples = self.dataset.samples(split)
        samples = samples[:: max(1, len(samples) // count)][:count]
        return next(iter(TensorBatches(self.dataset, samples, geometry, count)))

    def ask(
        self, script: str, method: str, question: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """What `script` answers to a question about a method and to tensors. Ends the program where it fails."""
        folder = self.folder / method.replace(" ", "-")
        folder.mkdir()
        save_file(
            {name: self._spoil(name, tensor).contiguous().clone() for name, tensor in tensors.items()},
            folder / "question.safetensors",
        )
        (folder / "question.json").write_text(
            json.dumps({"method": method, "threads": THREADS, **question}), encoding="utf-8"
        )
        command = [str(self.python), str(HERE / script), str(folder)]
        environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise SystemExit(f"{script} ended with exit code {done.returncode}:\n{done.stdout[-4000:]}")
        return load_file(folder / "answer.safetensors")

    def _spoil(self, name: str, tensor: Tensor) -> Tensor:
        if not self.spoil or self.spoil not in name or not tensor.is_floating_point():
            return tensor
        print(f"  spoilt by 1 %: {name}")
        noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0), dtype=tensor.dtype)
        return tensor * (1 + 0.01 * noise)
