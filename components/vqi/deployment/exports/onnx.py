"""ONNX, run by ONNX Runtime: what most other tools read too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from vqi.deployment.exports.export_format import ExportFormat, Infer, Note
from vqi.platform.errors import BadInput

if TYPE_CHECKING:
    from vqi.deployment.tracing import TracedDetector

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Onnx(ExportFormat):
    """ONNX Runtime computes in float32 wherever a graph says float32."""

    name: ClassVar[str] = "onnx"
    summary: ClassVar[str] = "ONNX, run by ONNX Runtime on processors and CUDA devices"
    backend: ClassVar[str] = "onnxruntime"
    files: ClassVar[tuple[str, ...]] = ("model.onnx",)
    install: ClassVar[str] = "vqi[predict]"
    opens_with: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    writes_with: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript")
    devices: ClassVar[tuple[str, ...]] = tuple(PROVIDERS)
    preference: ClassVar[int] = 10

    def write(self, source: TracedDetector, folder: Path) -> Mapping[str, Note]:
        import onnx

        onnx.save_model(source.onnx, folder / self.files[0])
        return {"opset": next(entry.version for entry in source.onnx.opset_import if entry.domain == "")}

    def open(
        self, folder: Path, input_size: tuple[int, int], index: Mapping[str, np.ndarray], device: str, threads: int
    ) -> Infer:
        return run_onnx(folder / self.files[0], index, device, threads)


def run_onnx(model: Path, index: Mapping[str, np.ndarray], device: str, threads: int) -> Infer:
    """An ONNX file with our inputs and outputs on ONNX Runtime. Raises BadInput for a device that is not here."""
    import onnxruntime

    available = [name for name, provider in PROVIDERS.items() if provider in onnxruntime.get_available_providers()]
    if device not in available:
        raise BadInput(f"ONNX Runtime has no device {device!r} here; it has {', '.join(available)}.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model), options, providers=[PROVIDERS[device]])
    to_value = onnxruntime.OrtValue.ortvalue_from_numpy
    held = {name: to_value(value, device) for name, value in index.items()}

    def infer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        score, values = session.run_with_ort_values(["score", "map"], {"images": to_value(images, device), **held})
        return score.numpy(), values.numpy()

    return infer
