"""The options of every command that opens a bundle (see vqi.deployment.predictor.Predictor)."""

from __future__ import annotations

from typing import Annotated

import typer

Backend = Annotated[
    str, typer.Option(help="auto, openvino, onnxruntime, or that of another export format in the bundle.")
]
Device = Annotated[str, typer.Option(help="cpu, or what the backend has: cuda (onnxruntime), gpu (openvino).")]
Threads = Annotated[int, typer.Option(help="Threads; 0: the backend's choice.")]
BatchSize = Annotated[
    int, typer.Option(help="Most photographs a batch; 0: as many as fit the bundle's memory bound, at most 8.")
]
