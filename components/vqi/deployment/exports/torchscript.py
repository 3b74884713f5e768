"""TorchScript: for programs of libtorch, in C++ and elsewhere, that read nothing newer. Torch has deprecated it."""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from vqi.deployment.exports.export_format import Infer, Note
from vqi.deployment.exports.torch_export import TorchExport, run_torch

if TYPE_CHECKING:
    from vqi.deployment.tracing import TracedDetector

# Which say where in the exporting machine's files each operation comes from; torch reads an archive without them.
ORIGINS = ".debug_pkl"


class TorchScript(TorchExport):
    """The index tensors are inputs, as in every format: `forward(images, *index by name)` gives the score and the map.

    Traced from the detector with two images. Where a method asks in Python for the number of images, the trace holds
    two for ever: the parity gate, which compares batches of one and of five, refuses it.
    """

    name: ClassVar[str] = "torchscript"
    summary: ClassVar[str] = "TorchScript, run by torch and by libtorch"
    backend: ClassVar[str] = "torchscript"
    files: ClassVar[tuple[str, ...]] = ("model.torchscript",)

    def write(self, source: TracedDetector, folder: Path) -> Mapping[str, Note]:
        import torch

        from vqi.deployment.tracing import IndexedGraph, as_exported, example_inputs

        with torch.no_grad(), as_exported(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its deprecation, and of what a trace cannot see
            module = IndexedGraph(source.detector, list(source.index)).eval()
            traced = torch.jit.freeze(torch.jit.trace(module, example_inputs(source.detector, list(source.index))))
        with tempfile.TemporaryDirectory(prefix=".torchscript-", dir=folder) as scratch:
            whole = Path(scratch) / "model.pt"
            traced.save(str(whole))
            with zipfile.ZipFile(whole) as old, zipfile.ZipFile(folder / self.files[0], "w") as new:
                for entry in old.infolist():
                    if not entry.filename.endswith(ORIGINS):
                        new.writestr(zipfile.ZipInfo(entry.filename), old.read(entry))
        return {"torch": str(torch.__version__)}

    def open(
        self, folder: Path, input_size: tuple[int, int], index: Mapping[str, np.ndarray], device: str, threads: int
    ) -> Infer:
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.jit.load(str(folder / self.files[0]), map_location="cpu")
        return run_torch(module, index, threads)
