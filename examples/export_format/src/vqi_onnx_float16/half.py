"""The graph as ONNX with its weights stored in half precision: half the size on disk and over a network.

The arithmetic stays float32: each large weight is followed by a Cast, which ONNX Runtime computes once, as it loads the
graph. What is lost is the rounding of the weights, about one part in 2000 of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from vqi.deployment.exports import ExportFormat
from vqi.deployment.exports.export_format import Infer, Note
from vqi.deployment.exports.onnx import run_onnx
from vqi.platform.errors import RunFailed

if TYPE_CHECKING:
    from vqi.deployment.tracing import TracedDetector

# Smaller tensors are mostly shapes, scales and offsets: they save nothing, and their rounding costs most.
SMALLEST = 1024


class OnnxFloat16(ExportFormat):
    name: ClassVar[str] = "onnx-float16"
    summary: ClassVar[str] = "ONNX with weights in half precision, run by ONNX Runtime"
    backend: ClassVar[str] = "onnx-float16"
    files: ClassVar[tuple[str, ...]] = ("model-float16.onnx",)
    install: ClassVar[str] = "vqi-onnx-float16"
    opens_with: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    writes_with: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript")
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    precision: ClassVar[str] = "float16"
    tolerance: ClassVar[float | None] = 0.02

    def write(self, source: TracedDetector, folder: Path) -> Mapping[str, Note]:
        import onnx
        from onnx import numpy_helper

        model = onnx.ModelProto()
        model.CopyFrom(source.onnx)  # other formats are made from the same one
        casts = []
        for weight in model.graph.initializer:
            values = numpy_helper.to_array(weight)
            if values.dtype != np.float32 or values.size < SMALLEST:
                continue
            if np.abs(values).max() > np.finfo(np.float16).max:
                raise RunFailed(f"The weight {weight.name} has values beyond the range of half precision.")
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_float16"))
            casts.append(onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT))
        nodes = [*casts, *model.graph.node]  # ONNX wants nodes in the order of their inputs
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        onnx.save_model(model, folder / self.files[0])
        return {"weights_in_half_precision": len(casts)}

    def open(
        self, folder: Path, input_size: tuple[int, int], index: Mapping[str, np.ndarray], device: str, threads: int
    ) -> Infer:
        return run_onnx(folder / self.files[0], index, device, threads)
