"""`POST /predict`, `/metrics` and `/openapi.json`."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving_server import Running, running
from vqi.deployment.predictor import Prediction, Predictor


def test_a_body_is_decided_as_the_predictor_decides(server: Running, toy_bundle: Path, defect: bytes) -> None:
    response = server.request("POST", "/predict", body=defect, headers={"Content-Type": "image/png"})
    answer = response.json()
    expected = Predictor(toy_bundle, "onnxruntime").predict_one(("sent", defect))
    assert isinstance(expected, Prediction)
    assert response.status == 200
    assert (answer["model"], len(answer["version"])) == ("plates", 12)
    [prediction] = answer["predictions"]
    assert prediction["decision"] == "defect"
    assert prediction["score"] == pytest.approx(expected.score, rel=1e-6)
    assert (prediction["height"], prediction["width"]) == (80, 96)
    assert [(box["x1"], box["y1"], box["x2"], box["y2"]) for box in prediction["boxes"]] == [
        box[:4] for box in expected.boxes
    ]
    assert not {"picture", "map", "error", "implausible"} & prediction.keys()


def test_several_files_are_answered_in_order_and_a_bad_one_by_its_sentence(
    server: Running, good: bytes, defect: bytes
) -> None:
    files = [("files", (name, content)) for name, content in (("a", good), ("b", b"nothing"), ("c", defect))]
    response = server.request("POST", "/predict", fields=files)
    first, second, third = response.json()["predictions"]
    assert response.status == 200
    assert (first["image"], first["decision"]) == ("a", "good")
    assert second["error"].startswith("b ")
    assert (third["image"], third["decision"]) == ("c", "defect")


def test_picture_and_map_come_where_they_are_asked_for(server: Running, defect: bytes) -> None:
    response = server.request("POST", "/predict?picture=true&map=true", body=defect)
    [prediction] = response.json()["predictions"]
    picture = Image.open(io.BytesIO(base64.b64decode(prediction["picture"])))
    values = np.asarray(Image.open(io.BytesIO(base64.b64decode(prediction["map"]))))
    assert (picture.format, picture.size) == ("JPEG", (96, 80))
    assert (values.dtype, values.shape) == (np.float32, (80, 96))
    assert float(np.nanmax(values)) == pytest.approx(max(box["score"] for box in prediction["boxes"]), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        ({"body": b"GIF89a nothing"}, 422, None),
        ({"body": b""}, 400, "The request has no body; send a photograph."),
        ({"fields": {"text": "no file"}}, 400, "The multipart body holds no file."),
        (
            {"body": b"--x", "headers": {"Content-Type": "multipart/form-data"}},
            400,
            "The multipart body cannot be read: ",
        ),
        ({"body": b"x", "path": "/predict?model=bolts"}, 404, "No bundle 'bolts' is served; there are: plates."),
        ({"body": b"x", "path": "/predict?picture=perhaps"}, 422, "The request is malformed at query.picture: "),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(
    server: Running, options: dict, status: int, sentence: str | None
) -> None:
    response = server.request("POST", options.pop("path", "/predict"), **options)
    answer = response.json()
    assert response.status == status
    if sentence is None:
        assert answer["predictions"][0]["error"].startswith("image 1 ")
    else:
        assert answer.keys() == {"error"}
        assert answer["error"].startswith(sentence)


def test_more_photographs_than_a_request_may_hold_are_refused(toy_bundle: Path, good: bytes) -> None:
    with running({"plates": toy_bundle}, photographs=2) as server:
        response = server.request("POST", "/predict", fields=[("files", (str(n), good)) for n in range(3)])
    assert response.status == 400
    assert "Too many files" in response.json()["error"]


def test_metrics_count_decisions_scores_and_requests(toy_bundle: Path, good: bytes, defect: bytes) -> None:
    with running({"plates": toy_bundle}) as server:
        for content in (good, defect, b"x"):
            server.request("POST", "/predict", body=content)
        lines = server.request("GET", "/metrics").data.decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values['vqi_photographs_total{decision="good",model="plates"}'] == "1.0"
    assert values['vqi_photographs_total{decision="defect",model="plates"}'] == "1.0"
    assert values['vqi_photographs_total{decision="unreadable",model="plates"}'] == "1.0"
    assert values['vqi_requests_total{route="/predict",status="200"}'] == "2.0"
    assert values['vqi_requests_total{route="/predict",status="422"}'] == "1.0"
    # The good one lies at or below the threshold's position, the defect above it.
    assert values['vqi_score_position_bucket{le="1.0",model="plates"}'] == "1.0"
    assert values['vqi_score_position_count{model="plates"}'] == "2.0"
    assert values["vqi_queue_photographs"] == "0.0"


def test_the_description_names_every_route_and_its_errors(server: Running) -> None:
    described = json.loads(server.request("GET", "/openapi.json").data)
    assert {"/predict", "/image-anomaly-detection", "/v2/models/{name}/infer", "/health"} <= described["paths"].keys()
    assert "503" in described["paths"]["/predict"]["post"]["responses"]


def test_the_viewer_of_the_routes_comes_from_this_server_alone(toy_bundle: Path) -> None:
    with running({"plates": toy_bundle}) as server:
        page = server.request("GET", "/docs")
        files = re.findall(r'(?:src|href)="([^"]+)"', page.data.decode())
        assert files == ["docs/swagger-ui.css", "data:,", "docs/swagger-ui-bundle.js", "docs/docs.js"]
        for file in (file for file in files if file != "data:,"):
            answer = server.request("GET", f"/{file}")
            assert answer.status == 200
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert b'url: "openapi.json"' in answer.data
        assert server.request("GET", "/openapi.json").json()["openapi"].startswith("3.1")
