"""A detector as a program, traced by torch.export.

The graph takes `images` float32 [N, 3, h, w] in [0, 1], N dynamic, and the index tensors as further named inputs; it
returns `score` [N] and `map` [N, h, w]. The index is an input and never a constant: a bank baked into the graph is what
makes exports of memory-bank methods take 75 GB and more, and forces a new export for every new normal. Tracing works on
fake tensors, so its memory does not depend on the index either.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from vqi.deployment.sidecar import Graph, IndexTensor
from vqi.platform.errors import RunFailed

if TYPE_CHECKING:
    import onnx

    from vqi.detectors.interface import Detector

# What the embeddings are called inside the graph.
EMBEDDING = "embedding"
# Not 1, which torch.export would take for a constant.
EXAMPLE_IMAGES = 2
# An index tensor of so few numbers may equal one of the network's by chance (a bias of zeros).
SMALL = 4096


class IndexedGraph(nn.Module):
    """What is traced: the detector with its index as arguments."""

    def __init__(self, detector: Detector, index_names: list[str]) -> None:
        super().__init__()
        self.detector, self.index_names = detector, index_names

    def forward(self, images: Tensor, *index: Tensor) -> tuple[Tensor, ...]:
        """Float32 [N, 3, h, w] and the index tensors -> scores [N], maps [N, h, w]; and the embeddings, where there is
        an index to compare them with."""
        embedding = self.detector.embed(images)
        scores = self.detector.score(embedding, dict(zip(self.index_names, index, strict=True)))
        return (scores.image, scores.map, embedding) if self.index_names else (scores.image, scores.map)


class TracedDetector:
    """What an export format writes from.

    `detector` is in float32, on the CPU, in evaluation mode, and traced as `program`: images `[N, 3, h, w]` and the
    tensors of `index`, sorted by name, in; scores `[N]` and maps `[N, h, w]` out, and with an index the embeddings
    `[N, ...]`. `graph` is what the sidecar says of it. `engine` is what the network ran by when the index was built
    (None: torch). `normals` are training photographs as the network sees them, float32 [3, h, w], read as they are
    taken: what a quantisation is calibrated on.
    """

    def __init__(self, detector: Detector, normals: Iterable[np.ndarray] = ()) -> None:
        """Raises RunFailed where the detector cannot be traced with a dynamic batch, or where an index tensor ended up
        inside the graph."""
        self.detector, self.normals, self.engine = detector.eval(), normals, detector.engine
        self.index: dict[str, Tensor] = {name: detector.index[name] for name in sorted(detector.index)}
        self.program = traced(detector, list(self.index))
        _check_index_outside(self.program, self.index)
        self.graph = Graph(
            input_shape=[None, 3, *detector.input_size],
            index=[
                IndexTensor(
                    name=name,
                    dtype=str(tensor.dtype).removeprefix("torch."),  # type: ignore[arg-type]
                    shape=list(tensor.shape),
                )
                for name, tensor in self.index.items()
            ],
            bytes_per_image=largest_intermediate(self.program) // EXAMPLE_IMAGES,
        )

    @cached_property
    def onnx(self) -> onnx.ModelProto:
        """The program as ONNX, which several formats are made from: inputs `images` and the index tensors, outputs
        `score` and `map`; a value inside is called `embedding`, where there is an index. Copy it before changing it."""
        return _onnx_model(self.program, list(self.index))


def traced(detector: Detector, index_names: list[str]) -> torch.export.ExportedProgram:
    """The detector's scoring as one program, with every axis that can be dynamic so: the batch, and the first axis of
    each index tensor."""
    detector = detector.eval()
    # AUTO, not a declared range: which index can grow is the method's affair (a memory bank can, a PCA's mean cannot);
    # the tracer finds it out.
    grows = tuple({0: torch.export.Dim.AUTO} if detector.index[name].ndim else {} for name in index_names)
    try:
        with torch.no_grad(), _quiet():
            program = torch.export.export(
                IndexedGraph(detector, index_names).eval(),
                example_inputs(detector, index_names),
                # A method without an index has no second entry, not an empty one.
                dynamic_shapes=({0: torch.export.Dim.AUTO}, grows) if grows else ({0: torch.export.Dim.AUTO},),
                strict=False,
            )
    except Exception as error:  # the tracer raises whatever the traced code or its own passes meet
        raise RunFailed(f"{detector.method} cannot be traced into a graph: {first_line(error)}.") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine, which a format might write down
    outputs = next(node for node in program.graph.nodes if node.op == "output").args[0]
    for name, output in zip(("score", "map"), outputs[:2], strict=True):
        if isinstance(output.meta["val"].shape[0], int):
            raise RunFailed(
                f"The graph of {detector.method} has a fixed batch in its output '{name}'; score() must take any "
                "number of images."
            )
    return program


def example_inputs(detector: Detector, index_names: list[str]) -> tuple[Tensor, ...]:
    """What a detector is traced with: black images float32 [EXAMPLE_IMAGES, 3, h, w], and its index tensors."""
    images = torch.zeros(EXAMPLE_IMAGES, 3, *detector.input_size)
    return images, *(detector.index[name] for name in index_names)


@contextlib.contextmanager
def as_exported() -> Iterator[None]:
    """Let a tracer that is not torch.export see what that sees: code asks `torch.compiler.is_exporting()` for the form
    that makes a graph, without loops over tiles of a batch."""
    before = torch.compiler._is_exporting_flag
    torch.compiler._is_exporting_flag = True
    try:
        yield
    finally:
        torch.compiler._is_exporting_flag = before


def largest_intermediate(program: torch.export.ExportedProgram) -> int:
    """Bytes of the largest tensor the program makes with its example inputs; its own inputs do not count."""
    largest = 1
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "call_function" and isinstance(value, Tensor):
            hints = [size if isinstance(size, int) else size.node.hint for size in value.shape]
            largest = max(largest, math.prod(hints) * value.element_size())
    return largest


def _onnx_model(program: torch.export.ExportedProgram, index_names: list[str]) -> onnx.ModelProto:
    from onnx_ir.passes.common import NameFixPass

    with _quiet():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["images", *index_names],
            output_names=["score", "map", EMBEDDING][: 3 if index_names else 2],
            external_data=False,
            verbose=False,
        )
    assert exported is not None
    # The exporter names values inside after operations, and a `mean` inside would shadow an index tensor of that name.
    NameFixPass()(exported.model)
    model = exported.model_proto
    del model.graph.output[2:]
    _name_axes(model, index_names)
    _forget_origin(model)
    return model


def _name_axes(model: onnx.ModelProto, index_names: list[str]) -> None:
    """`batch` and `<tensor>_length` in place of the tracer's symbols (s34, s85): people read the graph's inputs in a
    viewer."""
    values = {value.name: value for value in model.graph.input}
    names: dict[str, str] = {}
    for name in ["images", *index_names]:
        dims = values[name].type.tensor_type.shape.dim
        if dims and dims[0].dim_param:
            names.setdefault(dims[0].dim_param, "batch" if name == "images" else f"{name}_length")
    for value in [*model.graph.input, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]
    # Inferred shapes inside still carry the old symbols; runtimes infer them again.
    del model.graph.value_info[:]


def _forget_origin(model: onnx.ModelProto) -> None:
    """Drop what the tracer notes at each node: stack traces with this machine's paths, most of a small model's size."""
    del model.metadata_props[:], model.graph.metadata_props[:]
    for part in [
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.initializer,
        *model.functions,
    ]:
        del part.metadata_props[:]
        part.ClearField("doc_string")


def _check_index_outside(program: torch.export.ExportedProgram, index: Mapping[str, Tensor]) -> None:
    for held, constant in {**program.state_dict, **program.constants}.items():
        for name, tensor in index.items():
            if (
                tensor.numel() > SMALL
                and isinstance(constant, Tensor)
                and constant.shape == tensor.shape
                and torch.equal(constant, tensor)
            ):
                raise RunFailed(
                    f"The index tensor '{name}' was baked into the graph as '{held}'; score() must take it from its "
                    "argument."
                )


@contextlib.contextmanager
def _quiet() -> Any:
    """The exporter prints its stages to standard output, which belongs to results, and warns of its own deprecations;
    its optimiser logs a line for every constant that it does not fold, more than 100 of them."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def first_line(error: Exception) -> str:
    """What a sentence takes of an error: its first line, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
