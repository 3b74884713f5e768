"""Export formats as another package would bring them, found by entry points that tests set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from vqi.deployment import exports
from vqi.deployment.exports import ExportFormat
from vqi.deployment.exports.export_format import Infer, Note
from vqi.deployment.exports.onnx import run_onnx


class Strange(ExportFormat):
    """The graph of ONNX under another name, in a folder of its own."""

    name: ClassVar[str] = "strange"
    summary: ClassVar[str] = "for tests"
    backend: ClassVar[str] = "strange-runtime"
    files: ClassVar[tuple[str, ...]] = ("strange/",)
    install: ClassVar[str] = "vqi-strange"
    opens_with: ClassVar[tuple[str, ...]] = ("onnxruntime",)

    def write(self, source: Any, folder: Path) -> Mapping[str, Note]:
        (folder / "strange").mkdir()
        (folder / "strange/graph.bin").write_bytes(source.onnx.SerializeToString())
        (folder / "strange/mean.txt").write_text(f"{np.mean([image.mean() for image in source.normals] or [0]):.6f}")
        return {"whole": True}

    def open(
        self, folder: Path, input_size: tuple[int, int], index: Mapping[str, np.ndarray], device: str, threads: int
    ) -> Infer:
        return run_onnx(folder / "strange/graph.bin", index, device, threads)


Register = Callable[..., None]


def registering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Register]:
    """A function that makes installed packages name these formats, until the test ends."""

    def register(*values: Any) -> None:
        points = [SimpleNamespace(name="point", value=f"module:{value}", load=lambda v=value: v) for value in values]
        monkeypatch.setattr(exports, "entry_points", lambda group: points if group == "vqi.exports" else [])
        exports.export_formats.cache_clear()

    yield register
    monkeypatch.undo()
    exports.export_formats.cache_clear()
