"""The graph of a network that learns no more, as train writes it for the engine (`vqi.detectors.engine`)."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vqi.detectors.engine import HINTS, Engine
from vqi.detectors.engine_record import GRAPH, GRAPH_FILES, CellsRecord, EngineRecord
from vqi.detectors.graph_split import FEATURE
from vqi.detectors.interface import Detector
from vqi.detectors.learner import TrainedDetector
from vqi.platform.devices import Compute, Precision, bfloat16_instructions, torch_device
from vqi.platform.errors import BadInput
from vqi.platform.files import sha256_of

if TYPE_CHECKING:
    import openvino

# The largest difference from torch, as a share of torch's largest value. bfloat16 keeps 8 bits: in one
# run a single value of ResNet-18's features differed by 2.7 %.
TOLERANCE: Mapping[Precision, float] = {"float32": 1e-3, "bfloat16": 0.1}


def embeds(detector: Detector) -> bool:
    """Whether the network of a method gives embeddings that an index is fitted to, or scores itself."""
    return not isinstance(detector, TrainedDetector)


def outputs(detector: Detector) -> tuple[str, ...]:
    """The names of what a network's graph gives."""
    return ("embedding",) if embeds(detector) else ("score", "map")


class NetworkGraph(nn.Module):
    """What is traced."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector, self.embeds = detector, embeds(detector)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """float32 [N, 3, H, W] -> embeddings, or scores [N] and maps [N, H, W]."""
        if self.embeds:
            return self.detector.embed(images)
        scores = self.detector.score(self.detector.embed(images), {})
        return scores.image, scores.map


class NamedFeatures(nn.Module):
    """A network that gives embeddings, and the backbone's feature maps after them: where its graph is split."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features: list[Tensor] = []
        hook = self.detector.backbone.register_forward_hook(lambda *call: features.extend(call[2].values()))
        embedding = self.detector.embed(images)
        hook.remove()
        return embedding, *features


def write_engine(detector: Detector, folder: Path, compute: Compute, examples: Tensor) -> EngineRecord:
    """Write the graph of `detector`, which learns no more, into the existing `folder` if an engine runs it.

    `examples`: a few photographs, float32 [n, 3, H, W], that OpenVINO must agree with torch on. Raises BadInput where
    compute.engine is openvino and it cannot be.
    """
    reason = _hindrance(detector, compute)
    if not reason:
        backbone: Any = detector.backbone
        reduced, backbone.precision = backbone.precision, torch.float32
        try:
            reason = _write_checked(detector, folder, compute.precision, examples)
        except Exception as error:  # the tracer, the converter and the runtime raise whatever they meet
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            reason = f"OpenVINO cannot run this network ({first.rstrip('.')})"
        finally:
            backbone.precision = reduced
        if not reason:
            files = {name: sha256_of(folder / name) for name in GRAPH_FILES}
            agreed = f"the fastest here, and it agrees with torch on {len(examples)} photographs"
            grid = detector.embedding_grid
            return EngineRecord(
                name="openvino",
                precision=compute.precision,
                reason=agreed,
                files=files,
                grid=grid and (CellsRecord.of(grid.rows), CellsRecord.of(grid.columns)),
            )
        for name in GRAPH_FILES:
            (folder / name).unlink(missing_ok=True)
    if compute.engine == "openvino":
        raise BadInput(f"compute.engine is openvino, but {reason}; use compute.engine=auto.")
    return EngineRecord(name="torch", precision=compute.precision, reason=reason, files={})


def _hindrance(detector: Detector, compute: Compute) -> str:
    """Why OpenVINO does not come into question, "" where it does."""
    if compute.engine == "torch":
        return "compute.engine is torch"
    if (kind := torch_device(compute).type) != "cpu":
        return f"the device is {kind}"
    if compute.precision not in HINTS:
        return f"OpenVINO has no {compute.precision} on processors"
    if importlib.util.find_spec("openvino") is None:
        return "OpenVINO is not installed"
    if compute.precision != "float32" and not embeds(detector):
        return f"only what is fitted to features runs in {compute.precision} by OpenVINO; {detector.method} is trained"
    if compute.precision != "float32" and not getattr(detector.backbone, "normalises", True):
        return "the filter bank has no precision to lose"
    if compute.precision == "bfloat16" and not bfloat16_instructions():
        return "this processor has no bfloat16 instructions"
    return ""


def _write_checked(detector: Detector, folder: Path, precision: Precision, examples: Tensor) -> str:
    """Write the graph; what is wrong with it, or ""."""
    import openvino

    model = convert(detector, detector.input_size)
    openvino.save_model(model, folder / GRAPH, compress_to_fp16=False)
    with torch.inference_mode():
        expected = NetworkGraph(detector)(examples)
    reference = (expected,) if isinstance(expected, Tensor) else expected
    engine = Engine(folder / GRAPH, precision, embeds(detector))
    for name, values, wanted in zip(outputs(detector), engine._run(examples), reference, strict=True):
        deviation = float((values - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))
        if not deviation <= TOLERANCE[precision]:
            return f"its {name} on OpenVINO differs from torch's by {deviation:.2g} of the largest value"
    return ""


def convert(detector: Detector, input_size: tuple[int, int]) -> openvino.Model:
    """The network's graph for any number of images of `input_size`, float32: input `images`, and the outputs that
    `outputs` names.

    Not by openvino.convert_model: it reports usage over the network. Names are those of the position in the graph, so
    that the same network gives the same file.
    """
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # Kept: it holds the library that the front end lives in.
    manager = FrontEndManager()
    front_end = manager.load_by_framework("pytorch")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer announces its successor, and each size that becomes a constant
        traced = NamedFeatures(detector) if embeds(detector) else NetworkGraph(detector)
        decoder = TorchScriptPythonDecoder(traced.eval(), example_input=(torch.zeros(1, 3, *input_size),))
        model = front_end.convert(front_end.load(decoder))
    model.reshape([-1, 3, *input_size])
    names = outputs(detector)
    features = [output.get_node().input_value(0) for output in model.outputs[len(names) :]]
    model = openvino.Model(model.outputs[: len(names)], [entry.get_node() for entry in model.inputs], detector.method)
    for number, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name()}_{number}")
        for value in node.outputs():
            value.set_names(set())
    for number, value in enumerate(features):
        value.set_names({f"{FEATURE}{number}"})
    model.inputs[0].set_names({"images"})
    model.inputs[0].get_node().set_friendly_name("images")
    for name, output in zip(names, model.outputs, strict=True):
        output.set_names({name})
    return model
