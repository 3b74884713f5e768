"""The engine of a network that learns no more: its graph, written once by train and run by everyone who comes after.

The graph is what does not depend on the index: images to embeddings, or to scores and maps where a method has no index.
build_index, evaluate, export and the bundle run this same graph, so what a bank was built from is what runs on the
line. Each image is computed by itself: a result cannot depend on the batch it is in. Needs no torch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqi.detectors.arrays import Array, alike, on_processor
from vqi.detectors.engine_record import GRAPH, EngineRecord
from vqi.detectors.graph_split import split_model
from vqi.detectors.indexed import Scores
from vqi.platform.devices import Compute, Precision
from vqi.platform.errors import BadInput
from vqi.platform.threads import available_cpus, thread_limit

if TYPE_CHECKING:
    import openvino

# OpenVINO's words for our precisions.
HINTS: Mapping[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}


class Engine:
    """A network's graph on OpenVINO.

    `embeds`: its graph gives embeddings, else scores and maps. `streams` images are computed side by side, each by
    itself (0 = one a thread). Loading is put off until the first image. Arrays are of the kind that images are.
    """

    def __init__(self, graph: Path, precision: Precision, embeds: bool, streams: int = 0) -> None:
        self.graph, self.precision, self.embeds, self.streams = graph, precision, embeds, streams
        self._stages: list[Any] = []

    def embedding(self, images: Array) -> Array:
        """float32 [N, 3, H, W] -> embeddings [N, ...]."""
        return self._run(images)[0]

    def scores(self, images: Array) -> Scores:
        """float32 [N, 3, H, W] -> Scores."""
        return Scores(*self._run(images))

    def for_compute(self, compute: Compute) -> Engine:
        """The same, for batches as large as `compute` makes them. BadInput where its precision is another: the network
        was made for one."""
        if compute.precision != self.precision:
            raise BadInput(
                f"compute.precision is {compute.precision}, and the network was made to run in {self.precision}; run "
                "train again with this precision."
            )
        return Engine(self.graph, self.precision, self.embeds, compute.batch_size)

    def _run(self, images: Array) -> tuple[Array, ...]:
        self._open(tuple(images.shape[2:]))
        values = [np.ascontiguousarray(on_processor(images))]
        for queue, shapes in self._stages:
            results = [np.empty((len(images), *shape[1:]), dtype=np.float32) for shape in shapes]
            for number in range(len(images)):
                inputs = {position: value[number : number + 1] for position, value in enumerate(values)}
                queue.start_async(inputs, userdata=(results, number))
            queue.wait_all()
            values = results
        return tuple(alike(value, images) for value in values)

    def _open(self, size: tuple[int, ...]) -> None:
        if self._stages:
            return
        import openvino

        model = openvino.Core().read_model(self.graph)
        model.reshape([1, 3, *size])
        threads = thread_limit() or available_cpus()
        streams = max(1, min(self.streams or threads, threads))
        # What is computed of the backbone's features is float32 always.
        parts = [(model, self.precision)]
        if self.precision != "float32":
            parts = list(zip(split_model(model), (self.precision, "float32"), strict=True))
        for part, precision in parts:
            compiled = compile_graph(part, precision, INFERENCE_NUM_THREADS=threads, NUM_STREAMS=streams)
            queue = openvino.AsyncInferQueue(compiled, streams)
            queue.set_callback(_keep)
            self._stages.append((queue, [tuple(output.shape) for output in compiled.outputs]))


def _keep(request: openvino.InferRequest, position: tuple[list[np.ndarray], int]) -> None:
    results, number = position
    for result, output in zip(results, request.model_outputs, strict=True):
        result[number] = request.get_tensor(output).data.reshape(result.shape[1:])


def compile_graph(model: Any, precision: Precision, **properties: Any) -> Any:
    """An openvino.Model for the processor, in that precision. Raises BadInput where the processor cannot."""
    import openvino

    compiled = openvino.Core().compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": HINTS[precision], "ENABLE_CPU_PINNING": False, **properties}
    )
    if compiled.get_property("INFERENCE_PRECISION_HINT").to_string() != HINTS[precision]:
        raise BadInput(f"OpenVINO does not compute in {precision} on this processor; use compute.precision=float32.")
    return compiled


def engine_of(folder: Path, record: EngineRecord | None, embeds: bool) -> Engine | None:
    """The engine of the network artefact `folder`; None where torch runs it. In float32 torch does as well where
    OpenVINO is not installed; what is bfloat16 is refused.
    """
    if record is None or record.name != "openvino":
        return None
    if importlib.util.find_spec("openvino") is not None:
        return Engine(Path(folder) / GRAPH, record.precision, embeds)
    if record.precision != "float32":
        raise BadInput(
            f"The network {folder} runs on OpenVINO in {record.precision}, which is not installed here; install "
            "openvino, or run train again with compute.engine=torch."
        )
    return None
