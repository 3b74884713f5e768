"""The largest batch that fits: two small steps are tried, and memory is taken to grow with the batch in a straight
line."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import torch

from vqi.detectors.learner import Learner, TrainingImages
from vqi.platform.errors import RunFailed
from vqi.platform.logs import logger
from vqi.platform.memory import available_memory
from vqi.training.order import generator

log = logger(__name__)

# Of the memory that is free; the rest is for what the straight line does not know (optimiser's moments, fragmentation).
SHARE = 0.6
LARGEST_BATCH = 256
TRIED = (2, 4)


def largest_batch(learner: Learner, images: TrainingImages, device: torch.device, seed: int) -> int:
    """The largest power of two, at most 256 and at most the number of images, of which a step should fit into memory.

    The learner is left as it was. Raises RunFailed where this machine's memory cannot be watched.
    """
    kept = copy.deepcopy({name: tensor.cpu() for name, tensor in learner.state_dict().items()})
    free = _free(device)
    peaks = [_peak_of_a_step(learner, images, device, seed, size) for size in TRIED]
    learner.load_state_dict(kept)
    each = max((peaks[1] - peaks[0]) / (TRIED[1] - TRIED[0]), 1.0)
    fitting = int((SHARE * free - (peaks[0] - TRIED[0] * each)) / each)
    size = 1
    while 2 * size <= min(fitting, LARGEST_BATCH, len(images)):
        size *= 2
    log.info(f"batch size {size}: an image takes about {each / 2**20:.0f} MiB of {free / 2**20:.0f} that are free")
    return size


def _peak_of_a_step(learner: Learner, images: TrainingImages, device: torch.device, seed: int, size: int) -> float:
    """Bytes that a forward and a backward pass over `size` images need beyond what is held before it."""
    numbers = [number % len(images) for number in range(size)]
    labels = None if images.labels is None else images.labels[numbers]
    views = learner.views(images.load(numbers), labels, generator(seed, "batch size", size))
    learner.train()
    before = _reset_peak(device)
    learner.loss({name: tensor.to(device) for name, tensor in views.items()})["loss"].backward()
    peak = _peak(device) - before
    learner.zero_grad(set_to_none=True)
    return peak


def _free(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory()


def _reset_peak(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark to what is held now
    except OSError as error:
        raise RunFailed(
            "The batch size cannot be found here: the memory of a step cannot be watched; set train.batch_size."
        ) from error
    return _resident("VmRSS")


def _peak(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident("VmHWM")


def _resident(entry: str) -> float:
    lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(f"{entry}:"))
