"""OpenVINO's own format, converted from the ONNX of the same graph."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vqi.deployment.exports.export_format import ExportFormat, Infer, Note
from vqi.deployment.exports.openvino_graph import for_one, precision_of, with_network
from vqi.deployment.exports.preselection import (
    EXACT,
    LEAST_RECALL,
    NEIGHBOURS,
    PRESELECTED,
    preselects,
    recall,
    searches,
    with_preselection,
)
from vqi.deployment.exports.triangular import with_triangular_blocks
from vqi.detectors.graph_split import split_model
from vqi.platform.devices import int8_instructions
from vqi.platform.errors import BadInput
from vqi.platform.logs import logger

if TYPE_CHECKING:
    import openvino

    from vqi.deployment.tracing import TracedDetector

log = logger(__name__)


class OpenVino(ExportFormat):
    """OpenVINO in the precision that thresholds were taken in: left to itself it computes in bfloat16 on processors
    that have it, and maps move by more than a percent."""

    name: ClassVar[str] = "openvino"
    summary: ClassVar[str] = "OpenVINO, the faster of the two on Intel's processors"
    backend: ClassVar[str] = "openvino"
    files: ClassVar[tuple[str, ...]] = ("openvino/model.xml", "openvino/model.bin")
    install: ClassVar[str] = "vqi[predict]"
    opens_with: ClassVar[tuple[str, ...]] = ("openvino",)
    writes_with: ClassVar[tuple[str, ...]] = ("openvino", "onnx", "onnxscript")
    devices: ClassVar[tuple[str, ...]] = ("cpu", "gpu", "npu")
    # Before ONNX Runtime: 44 to 50 ms of processor time an image against 49 to 67 (PatchCore, ResNet-18, 256 px,
    # AVX-512).
    preference: ClassVar[int] = 20

    def write(self, source: TracedDetector, folder: Path) -> Mapping[str, Note]:
        import onnx
        import openvino

        destination = folder / self.files[0]
        destination.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".onnx-", dir=folder) as scratch:
            onnx.save_model(source.onnx, Path(scratch) / "model.onnx")
            core = openvino.Core()
            # Not convert_model: it goes through a front end that reports usage over the network and notes this
            # machine's paths in the model.
            model = core.read_model(Path(scratch) / "model.onnx")
            if source.index and source.engine:
                # What the index was built with.
                model = with_network(model, core.read_model(source.engine.graph), source.engine.precision)
            if searches(model):
                model.set_rt_info(PRESELECTED, NEIGHBOURS)
            openvino.save_model(model, destination, compress_to_fp16=False)
        return {}

    def prove(
        self, folder: Path, input_size: tuple[int, int], index: Mapping[str, np.ndarray], images: np.ndarray
    ) -> Mapping[str, Note]:
        import openvino

        model = openvino.Core().read_model(folder / self.files[0])
        if not preselects(model):
            return {"neighbours": EXACT} if model.has_rt_info(NEIGHBOURS) else {}
        if not int8_instructions():
            log.info("this processor does not multiply int8, which a quicker search for neighbours is proven with")
            self.make_exact(folder)
            return {"neighbours": EXACT}
        preselected = with_preselection(model, index)
        if preselected is None:
            return {}
        share = recall(preselected, images)
        if share < LEAST_RECALL:
            log.warning(
                f"a pre-selection in 8 bits finds {100 * share:.4g} % of the nearest neighbours, fewer than "
                f"{100 * LEAST_RECALL:g} %; the OpenVINO graph searches exactly, which takes longer"
            )
            self.make_exact(folder)
        return {"neighbours": PRESELECTED if share >= LEAST_RECALL else EXACT, "recall": share}

    def make_exact(self, folder: Path) -> bool:
        import openvino

        file = folder / self.files[0]
        model = openvino.Core().read_model(file)
        if not preselects(model):
            return False
        model.set_rt_info(EXACT, NEIGHBOURS)
        with tempfile.TemporaryDirectory(prefix=".openvino-", dir=folder) as scratch:
            openvino.save_model(model, Path(scratch) / "model.xml", compress_to_fp16=False)
            del model  # which reads the weights from the file
            for name in self.files:
                (Path(scratch) / Path(name).name).replace(folder / name)
        return True

    def precision_of(self, source: TracedDetector) -> str:
        return source.engine.precision if source.index and source.engine else self.precision

    def open(
        self, folder: Path, input_size: tuple[int, int], index: Mapping[str, np.ndarray], device: str, threads: int
    ) -> Infer:
        import openvino

        core = openvino.Core()
        available = sorted({name.split(".")[0].lower() for name in core.available_devices})
        if device not in available:
            raise BadInput(f"OpenVINO has no device {device!r} here; it has {', '.join(available)}.")
        properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if device == "cpu" and threads:
            properties["INFERENCE_NUM_THREADS"] = threads
        model = core.read_model(folder / self.files[0])
        precision = precision_of(model)

        def load(graph: Any, tensors: Mapping[str, np.ndarray]) -> OpenVinoGraph:
            return _loaded(core, graph, tensors, device, precision, properties)

        if device != "cpu":
            return load(model, index)
        if preselects(model) and int8_instructions() and (preselected := with_preselection(model, index)):
            return one_by_one(load(preselected.model, {}))
        if searches(model):
            # Its TopK takes four times as long where OpenVINO knows all sizes.
            return load(model, index)
        if blocks := with_triangular_blocks(model, index):
            # Images that are scored together read the factors once.
            return by_number(load(for_one(*blocks), blocks[1]), lambda: load(*blocks))
        return one_by_one(load(for_one(model, index), index))


def _loaded(
    core: openvino.Core,
    model: openvino.Model,
    index: Mapping[str, np.ndarray],
    device: str,
    precision: str,
    properties: Mapping[str, Any],
) -> OpenVinoGraph:
    """A model compiled, the network of it in that precision."""
    if precision == "float32":
        return OpenVinoGraph(core.compile_model(model, device.upper(), properties).create_infer_request(), index)
    network, scoring = split_model(model)
    compiled = core.compile_model(network, device.upper(), {**properties, "INFERENCE_PRECISION_HINT": "bf16"})
    if device == "cpu" and compiled.get_property("INFERENCE_PRECISION_HINT").to_string() != "bf16":
        log.warning(
            f"the thresholds of this bundle were taken in {precision}, in which this processor does not compute; "
            "scores in float32 differ from them (calibration.precision_shift of bundle.json)"
        )
    scores = core.compile_model(scoring, device.upper(), properties).create_infer_request()
    return OpenVinoGraph(scores, index, compiled.create_infer_request())


def by_number(one: Infer, load_any: Callable[[], Infer]) -> Infer:
    """A graph for one image, and one for any number, loaded when it is needed."""
    several: list[Infer] = []

    def infer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if len(images) == 1:
            return one(images)
        if not several:
            several.append(load_any())
        return several[0](images)

    return infer


def one_by_one(graph: Infer) -> Infer:
    """The same for any number of images, by a graph that takes one: where OpenVINO knows the number it does without
    copies."""

    def infer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        results = [graph(images[number : number + 1]) for number in range(len(images))]
        scores, maps = zip(*results, strict=True)
        return np.concatenate(scores), np.concatenate(maps)

    return infer


class OpenVinoGraph:
    """One loaded graph, or its `network` and what scores its features. Keeps the arrays of the index, whose own
    memory the request reads."""

    def __init__(
        self,
        request: openvino.InferRequest,
        index: Mapping[str, np.ndarray],
        network: openvino.InferRequest | None = None,
    ) -> None:
        import openvino

        self._request, self._index, self._tensor = request, dict(index), openvino.Tensor
        self._network = network
        self._features = [output.get_any_name() for output in network.model_outputs] if network else []
        for name, value in self._index.items():
            request.set_tensor(name, openvino.Tensor(value, shared_memory=True))

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """An Infer."""
        first = self._network or self._request
        first.set_tensor("images", self._tensor(images, shared_memory=True))
        first.infer()
        if self._network:
            for name in self._features:
                self._request.set_tensor(name, self._network.get_tensor(name))
            self._request.infer()
        # Copies: the next call writes over these.
        return self._request.get_tensor("score").data.copy(), self._request.get_tensor("map").data.copy()
