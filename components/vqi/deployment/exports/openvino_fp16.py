"""OpenVINO with its weights in half precision: half the size on disk and over a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from vqi.deployment.exports.openvino import OpenVino

if TYPE_CHECKING:
    from vqi.deployment.tracing import TracedDetector


class OpenVinoFp16(OpenVino):
    """Weights are stored in float16 and become float32 as the graph is loaded: it computes as `openvino` does, and what
    is lost is the rounding of each weight, one part in 2,048 at most."""

    name: ClassVar[str] = "openvino-fp16"
    summary: ClassVar[str] = "OpenVINO with weights in half precision, half the size"
    backend: ClassVar[str] = "openvino-fp16"
    files: ClassVar[tuple[str, ...]] = ("openvino-fp16/model.xml", "openvino-fp16/model.bin")
    precision: ClassVar[str] = "float16"
    tolerance: ClassVar[float | None] = 0.01
    # After what is exact: it saves room and no time.
    preference: ClassVar[int] = 5

    def precision_of(self, source: TracedDetector) -> str:
        computed = super().precision_of(source)
        return computed if computed == "bfloat16" else self.precision

    def save(self, model: Any, file: Any) -> None:
        import openvino

        openvino.save_model(model, file, compress_to_fp16=True)
