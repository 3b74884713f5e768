"""MLflow's form of a bundle: a pyfunc by models from code, so that `mlflow models serve` and
`mlflow.pyfunc.load_model` run the bundle as it is."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from vqi.deployment.bundle_files import GOLDEN
from vqi.deployment.exports.export_format import Answer, BundleWrapper, Note, WrappedResult
from vqi.platform.files import write_json, write_whole

if TYPE_CHECKING:
    from vqi.deployment.sidecar import Sidecar

MODEL, CODE = "MLmodel", "mlflow_bundle.py"
# What MLflow looks for at the top of a model.
REQUIREMENTS, PYTHON = "requirements.txt", "python_env.yaml"
EXAMPLE, REQUEST = "mlflow/input_example.json", "mlflow/serving_input_example.json"
SOURCE = '''"""What MLflow runs to open this bundle. It needs vqi[predict]."""

from pathlib import Path

from mlflow.models import set_model

from vqi.deployment.mlflow_model import BundleModel

set_model(BundleModel(Path(__file__).parent))
'''
# How the bundle is opened where `model_config` does not say otherwise, as by `vqi predict`.
DEFAULTS: Mapping[str, str | int | None] = {
    "backend": "auto",
    "device": "cpu",
    "threads": 0,
    "batch_size": 0,
    "false_reject_rate": None,
    "threshold": None,
    "implausible": "refuse",
}
# The photograph of the example is not drawn larger than so many pixels a side.
LARGEST_SIDE = 1600


class MlflowModel(BundleWrapper):
    """Its files stand beside the graphs and hold none: MLflow's file `MLmodel` makes a model of the bundle's folder."""

    name: ClassVar[str] = "mlflow"
    summary: ClassVar[str] = "MLflow's pyfunc, by models from code: runs the bundle as it is"
    backend: ClassVar[str] = "mlflow"
    files: ClassVar[tuple[str, ...]] = (MODEL, CODE, REQUIREMENTS, PYTHON, "mlflow/")
    install: ClassVar[str] = "mlflow"
    opens_with: ClassVar[tuple[str, ...]] = ("mlflow", "pandas")
    writes_with: ClassVar[tuple[str, ...]] = ("mlflow", "pandas")
    # The same program computes the same: nothing is rounded on the way.
    tolerance: ClassVar[float | None] = 1e-9

    def wrap(self, folder: Path, sidecar: Sidecar) -> Mapping[str, Note]:
        write_mlflow_files(folder, sidecar, folder / GOLDEN)
        return {"mlflow": version("mlflow")}

    def load(self, folder: Path) -> Answer:
        mlflow = _mlflow()
        import pandas

        model = mlflow.pyfunc.load_model(str(folder))

        def answer(photographs: Sequence[bytes]) -> list[WrappedResult]:
            rows = model.predict(pandas.DataFrame({"image": list(photographs)}))
            return [
                WrappedResult(row["score"], row["decision"], tuple(tuple(box.values()) for box in row["boxes"]))
                for row in rows.to_dict("records")
            ]

        return answer


def write_mlflow_files(folder: Path, sidecar: Sidecar, golden: Path) -> None:
    """Write what makes an MLflow model of a bundle's folder into `folder`. The input example is the first of the
    photographs in the file `golden`, where there is one."""
    mlflow = _mlflow()
    example = _example(sidecar, golden) if sidecar.golden is not None else None
    info: dict[str, Any] | None = None
    if example is not None:
        table = {"columns": ["image"], "data": [[base64.b64encode(example).decode()]]}
        write_json(folder / EXAMPLE, table)
        write_json(folder / REQUEST, {"dataframe_split": table})
        info = {
            "artifact_path": EXAMPLE,
            "serving_input_path": REQUEST,
            "type": "dataframe",
            "pandas_orient": "split",
        }
    model = mlflow.models.Model(
        signature=_signature(),
        saved_input_example_info=info,
        metadata={"vqi.name": sidecar.name, "vqi.method": sidecar.method},
    )
    mlflow.pyfunc.add_to_model(
        model,
        loader_module="mlflow.pyfunc.model",
        model_code_path=CODE,
        python_env=PYTHON,
        streamable=False,
        # What whoever loads it may set otherwise: MLflow passes on no other key.
        model_config=dict(DEFAULTS),
    )
    write_whole(folder / CODE, SOURCE)
    write_whole(folder / REQUIREMENTS, f"vqi[predict]=={version('vqi')}\nmlflow=={version('mlflow')}\n")
    _python_env(folder / PYTHON)
    write_whole(folder / MODEL, model.to_yaml())


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, Object, Property

    corners = [Property(name, DataType.long) for name in ("x1", "y1", "x2", "y2")]
    box = Object([*corners, Property("score", DataType.double)])
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image")]),
        outputs=Schema(
            [
                ColSpec(DataType.double, "score", required=False),
                ColSpec(DataType.string, "decision"),
                ColSpec(DataType.double, "threshold"),
                ColSpec(Array(box), "boxes"),
                ColSpec(DataType.string, "reason"),
            ]
        ),
    )


def _python_env(path: Path) -> None:
    """The interpreter, as MLflow writes it for the environments that it makes."""
    import platform

    write_whole(
        path,
        f"python: {platform.python_version()}\nbuild_dependencies:\n- pip\ndependencies:\n- -r {REQUIREMENTS}\n",
    )


def _example(sidecar: Sidecar, golden: Path) -> bytes:
    """A photograph as a file: the first golden one, drawn as large as photographs of the set are."""
    from safetensors.numpy import load_file

    pixels = load_file(golden)["images"][0]
    ranges = sidecar.plausibility.ranges
    side, aspect = ((ranges[name].lowest * ranges[name].highest) ** 0.5 for name in ("side", "aspect"))
    width, height = side * aspect**0.5, side / aspect**0.5
    shrink = min(1.0, LARGEST_SIDE / max(width, height))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BICUBIC).save(
        content, "JPEG", quality=92
    )
    return content.getvalue()


def _mlflow() -> Any:
    """MLflow, which reports nothing to its makers unless the user asks for it."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow
    import mlflow.models
    import mlflow.pyfunc

    return mlflow
