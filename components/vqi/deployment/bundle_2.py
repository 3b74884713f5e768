"""Bundles of the format vqi-bundle/2, which hold ONNX and OpenVINO always: their sidecar, and what it is today."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vqi.deployment.bundle_files import INDEX
from vqi.deployment.sidecar import (
    Deviation,
    FileEntry,
    FormatEntry,
    Graph,
    Parity,
    Sidecar,
    SidecarBase,
)
from vqi.platform.records import Record

FORMAT_2: Literal["vqi-bundle/2"] = "vqi-bundle/2"
FILES = {"onnx": ("model.onnx",), "openvino": ("openvino/model.xml", "openvino/model.bin")}
BACKENDS = {"onnx": "onnxruntime", "openvino": "openvino"}


class Graph2(Graph):
    precision: Literal["float32"] = "float32"
    opset: int


class Measured2(Record):
    backend: str
    batch: int = Field(ge=1)
    score: float
    map: float
    flipped: int


class Parity2(Record):
    tolerance: float
    formula: str
    images: int
    flipped: int
    measured: list[Measured2]


class Sidecar2(SidecarBase):
    """`bundle.json` as it was."""

    format: Literal["vqi-bundle/2"] = FORMAT_2
    graph: Graph2
    parity: Parity2
    files: dict[Literal["model.onnx", "openvino/model.xml", "openvino/model.bin", "index.safetensors"], FileEntry]

    def as_current(self) -> Sidecar:
        """The same bundle as today's readers see it."""
        shared = {name: getattr(self, name) for name in SidecarBase.model_fields if name != "graph"}
        return Sidecar(
            **shared,
            graph=Graph(**self.graph.model_dump(exclude={"precision", "opset"})),
            parity=Parity(formula=self.parity.formula, images=self.parity.images),
            formats={name: self._entry(name) for name in FILES},
            files={INDEX: self.files[INDEX]} if INDEX in self.files else {},
        )

    def _entry(self, name: str) -> FormatEntry:
        return FormatEntry(
            backend=BACKENDS[name],
            precision=self.graph.precision,
            install="vqi[predict]",
            tolerance=self.parity.tolerance,
            deviations=[
                Deviation(batch=one.batch, score=one.score, map=one.map, flipped=one.flipped)
                for one in self.parity.measured
                if one.backend == BACKENDS[name]
            ],
            latency_ms=None,
            notes={"opset": self.graph.opset} if name == "onnx" else {},
            files={file: entry for file, entry in self.files.items() if file in FILES[name]},
        )
