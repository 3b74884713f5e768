"""The program that torch.export traced, as a .pt2 file: for who runs torch, or compiles the graph further with it."""

from __future__ import annotations

import copy
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from vqi.deployment.exports.export_format import ExportFormat, Infer, Note
from vqi.platform.errors import BadInput

if TYPE_CHECKING:
    import torch

    from vqi.deployment.tracing import TracedDetector

# What an archive without anything pickled is made of, below its own folder.
PLAIN = re.compile(
    r"data/(weights/(weight_\d+|\w+_weights_config\.json)|constants/(tensor_\d+|\w+_constants_config\.json))"
    r"|models/\w+\.json|archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
)


class TorchExport(ExportFormat):
    name: ClassVar[str] = "torch-export"
    summary: ClassVar[str] = "the program of torch.export (.pt2), run by torch"
    backend: ClassVar[str] = "torch-export"
    files: ClassVar[tuple[str, ...]] = ("model.pt2",)
    install: ClassVar[str] = "torch"
    opens_with: ClassVar[tuple[str, ...]] = ("torch",)
    writes_with: ClassVar[tuple[str, ...]] = ("torch",)
    # The operations are the detector's own; a batch of several may be rounded otherwise.
    tolerance: ClassVar[float | None] = 1e-3
    # Torch's reader evaluates expressions of the file.
    by_name_alone: ClassVar[bool] = True

    def write(self, source: TracedDetector, folder: Path) -> Mapping[str, Note]:
        import torch

        program = copy.copy(source.program)
        # With which the file would hold the index once more, pickled.
        program._example_inputs = None
        torch.export.save(program, folder / self.files[0])
        check_plain(folder / self.files[0])
        return {"torch": str(torch.__version__)}

    def open(
        self, folder: Path, input_size: tuple[int, int], index: Mapping[str, np.ndarray], device: str, threads: int
    ) -> Infer:
        import torch

        file = folder / self.files[0]
        check_plain(file)
        return run_torch(torch.export.load(file).module(), index, threads)


def check_plain(file: Path) -> None:
    """Raise BadInput where a .pt2 file holds anything pickled, which torch would run as it reads it."""
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                name = entry.filename.partition("/")[2]
                pickled = not PLAIN.fullmatch(name) and entry.file_size > 0
                if not pickled and name.endswith("_config.json"):
                    config = json.loads(archive.read(entry))["config"]
                    pickled = any(held["use_pickle"] for held in config.values())
                if pickled:
                    raise BadInput(f"{file} holds more than a graph and its weights ({entry.filename}); export again.")
    except (zipfile.BadZipFile, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadInput(f"{file} is not a program of torch.export ({type(error).__name__}); export again.") from error


def run_torch(module: torch.nn.Module, index: Mapping[str, np.ndarray], threads: int) -> Infer:
    """A module of torch with our inputs and outputs, on the CPU. The number of threads is torch's own again after each
    call, as others in this process may use it."""
    import torch

    held = [torch.from_numpy(value) for value in index.values()]

    def infer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        try:
            with torch.inference_mode():
                score, values, *_ = module(torch.from_numpy(images), *held)
        finally:
            torch.set_num_threads(before)
        return score.numpy(), values.numpy()

    return infer
