"""The options of every command that opens a bundle (see vqi.deployment.predictor.Predictor)."""

from __future__ import annotations

from typing import Annotated

import typer

from vqi_pipelines.commands.tracking_option import name_tracking

Bundle = Annotated[
    str,
    typer.Argument(help="The bundle folder that a run exported, or models:/NAME@champion, models:/NAME/3."),
]
BundleAddress = Annotated[
    str,
    typer.Argument(
        help="The bundle: the folder that a run exported, s3://bucket/prefix, or models:/NAME@champion, models:/NAME/3."
    ),
]
Backend = Annotated[
    str, typer.Option(help="auto, openvino, onnxruntime, or that of another export format in the bundle.")
]
Device = Annotated[str, typer.Option(help="cpu, or what the backend has: cuda (onnxruntime), gpu (openvino).")]
Threads = Annotated[int, typer.Option(help="Threads; 0: the backend's choice.")]
Tracking = Annotated[
    str,
    typer.Option(
        help="MLflow whose model registry is meant (models:/...); empty = MLFLOW_TRACKING_URI.",
        # Sentences about the address name what this command knows it by.
        callback=name_tracking,
    ),
]
BatchSize = Annotated[
    int, typer.Option(help="Most photographs a batch; 0: as many as fit the bundle's memory bound, at most 8.")
]
