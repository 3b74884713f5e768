"""The format by which MLflow runs a bundle: its own loader, and what it says of itself."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest
import urllib3

from serving_server import png
from toy_bundle import photograph
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.exports import check_formats, export_formats
from vqi.deployment.exports.mlflow import MlflowModel
from vqi.deployment.graph_runtime import open_graph
from vqi.deployment.predictor import Prediction, Predictor
from vqi.platform.errors import BadInput

FILES = (png(photograph(33)), png(photograph(34, defect=True)), b"not a photograph")

COMMAND = (sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--workers", "1")


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(toy_bundle, tmp_path_factory.mktemp("mlflow") / "bundle"))
    MlflowModel().wrap(folder, read_sidecar(folder))
    return folder


def test_mlflow_answers_what_the_bundle_answers(bundle: Path) -> None:
    import mlflow

    model = mlflow.pyfunc.load_model(str(bundle))
    rows = model.predict(pandas.DataFrame({"image": list(FILES)})).to_dict("records")
    expected = [result for result in Predictor(bundle).predict(FILES[:2]) if isinstance(result, Prediction)]
    assert [row["score"] for row in rows[:2]] == [result.score for result in expected]
    assert [row["decision"] for row in rows] == ["good", "defect", "unreadable"]
    assert [list(box.values()) for box in rows[1]["boxes"]] == [list(box) for box in expected[1].boxes]
    assert rows[1]["boxes"]
    assert rows[0]["threshold"] == read_sidecar(bundle).thresholds.image
    assert rows[0]["reason"] == ""
    assert rows[2]["reason"].startswith("image 3 ")
    assert rows[2]["score"] is None


def test_it_holds_no_pickle_and_states_signature_and_example(bundle: Path) -> None:
    import mlflow

    model = mlflow.models.Model.load(str(bundle))
    assert [(column.name, str(column.type)) for column in model.signature.inputs] == [("image", "DataType.binary")]
    assert [column.name for column in model.signature.outputs] == [
        "score",
        "decision",
        "threshold",
        "boxes",
        "reason",
    ]
    example = model.load_input_example(str(bundle))
    (row,) = mlflow.pyfunc.load_model(str(bundle)).predict(example).to_dict("records")
    assert row["score"] > 0
    assert [path.name for path in bundle.rglob("*") if path.suffix in (".pkl", ".pickle")] == []
    assert model.flavors["python_function"]["model_code_path"] == "mlflow_bundle.py"


def test_how_it_is_opened_may_be_set_when_it_is_loaded(bundle: Path) -> None:
    import mlflow

    table = pandas.DataFrame({"image": list(FILES[:2])})
    strict = mlflow.pyfunc.load_model(str(bundle), model_config={"threshold": 1e-6, "backend": "onnxruntime"})
    assert list(strict.predict(table)["decision"]) == ["defect", "defect"]
    with pytest.raises(Exception, match="Did you mean 'openvino'"):
        mlflow.pyfunc.load_model(str(bundle), model_config={"backend": "opnvino"})


def test_the_bundle_stays_readable_and_its_graphs_are_what_runs(bundle: Path) -> None:
    sidecar = read_sidecar(bundle)
    assert open_graph(bundle, sidecar).backend == "openvino"
    with pytest.raises(BadInput, match="holds nothing for the backend mlflow"):
        open_graph(bundle, sidecar, "mlflow")


def test_a_wrapper_needs_a_graph_beside_it() -> None:
    assert "mlflow" in export_formats()
    with pytest.raises(BadInput, match="names mlflow alone, which runs the graph of another format; name one beside"):
        check_formats(("mlflow",))


@pytest.mark.slow
def test_mlflow_serves_it(bundle: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    process = subprocess.Popen(
        [*COMMAND, "--model-uri", str(bundle), "--port", str(port)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if urllib3.request("GET", f"http://127.0.0.1:{port}/ping", retries=False, timeout=2).status == 200:
                    break
            except urllib3.exceptions.HTTPError:
                assert process.poll() is None
                assert time.monotonic() < deadline
            time.sleep(0.3)
        table = {"columns": ["image"], "data": [[base64.b64encode(file).decode()] for file in FILES]}
        answer = urllib3.request(
            "POST", f"http://127.0.0.1:{port}/invocations", json={"dataframe_split": table}, retries=False, timeout=60
        )
        assert answer.status == 200, answer.data
        rows = json.loads(answer.data)["predictions"]
        assert [row["decision"] for row in rows] == ["good", "defect", "unreadable"]
        assert rows[1]["boxes"][0].keys() == {"x1", "y1", "x2", "y2", "score"}
        assert rows[2]["score"] is None
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
