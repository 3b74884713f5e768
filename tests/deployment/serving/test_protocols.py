"""PaddleX's routes and the Open Inference Protocol v2, over HTTP and gRPC."""

from __future__ import annotations

import base64
import json
import struct

import grpc
import numpy as np
import pytest

from serving_server import Running
from toy_bundle import photograph
from vqi.deployment.serving.open_inference_grpc import PROTOCOL

INFER = "/v2/models/plates/infer"


def image_input(*contents: bytes) -> dict:
    data = [base64.b64encode(content).decode() for content in contents]
    return {"name": "image", "datatype": "BYTES", "shape": [len(data)], "data": data}


def test_paddlex_clients_get_label_map_size_and_picture(server: Running, defect: bytes) -> None:
    answer = server.request(
        "POST", "/image-anomaly-detection", json={"image": base64.b64encode(defect).decode()}
    ).json()
    assert answer.keys() == {"logId", "result", "errorCode", "errorMsg"}
    assert (answer["errorCode"], answer["errorMsg"]) == (0, "Success")
    result = answer["result"]
    assert result["size"] == [80, 96]
    assert len(result["labelMap"]) == 80 * 96
    assert set(result["labelMap"]) == {0, 255}
    assert base64.b64decode(result["image"]).startswith(b"\xff\xd8")
    without = {"image": base64.b64encode(defect).decode(), "visualize": False}
    assert "image" not in server.request("POST", "/image-anomaly-detection", json=without).json()["result"]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({}, 422, "The request is malformed at body.image"),
        ({"image": "not Base64!"}, 422, "image is neither Base64 nor an address."),
        ({"image": base64.b64encode(b"nothing").decode()}, 422, "image "),
        ({"image": "http://127.0.0.1/secret"}, 400, "Photographs are not fetched from addresses here"),
    ],
)
def test_paddlex_errors_have_its_body(server: Running, body: dict, status: int, sentence: str) -> None:
    response = server.request("POST", "/image-anomaly-detection", json=body)
    answer = response.json()
    assert response.status == status
    assert answer.keys() == {"logId", "errorCode", "errorMsg"}
    assert answer["errorCode"] == status
    assert answer["errorMsg"].startswith(sentence)


def test_health_and_metadata(server: Running) -> None:
    assert server.request("GET", "/health").json()["errorMsg"] == "Healthy"
    assert server.request("GET", "/v2/health/live").json() == {"live": True}
    assert server.request("GET", "/v2/health/ready").json() == {"ready": True}
    assert server.request("GET", "/v2").json()["extensions"] == ["binary_tensor_data", "model_repository"]
    described = server.request("GET", "/v2/models/plates").json()
    assert [tensor["name"] for tensor in described["inputs"]] == ["image", "pixels"]
    version = described["versions"][0]
    assert server.request("GET", f"/v2/models/plates/versions/{version}/ready").json()["ready"] is True
    assert server.request("GET", "/v2/models/plates/versions/1").status == 404


def test_json_tensors_of_both_kinds_score_alike(server: Running, defect: bytes) -> None:
    by_file = server.request("POST", INFER, json={"id": "7", "inputs": [image_input(defect)]}).json()
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": [1, 80, 96, 3]}
    pixels["data"] = photograph(99, defect=True).ravel().tolist()
    by_pixels = server.request("POST", INFER, json={"inputs": [pixels], "outputs": [{"name": "score"}]}).json()
    outputs = {output["name"]: output for output in by_file["outputs"]}
    assert by_file["id"] == "7"
    assert list(outputs) == ["score", "decision", "boxes"]
    assert outputs["decision"]["data"] == ["defect"]
    assert len(json.loads(outputs["boxes"]["data"][0])[0]) == 5
    assert by_pixels["outputs"][0]["data"] == outputs["score"]["data"]


def test_binary_tensors_travel_behind_the_json(server: Running, good: bytes, defect: bytes) -> None:
    content = b"".join(struct.pack("<I", len(file)) + file for file in (good, defect))
    tensor = {"name": "image", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(content)}}
    outputs = [{"name": "map", "parameters": {"binary_data": True}}, {"name": "decision"}]
    header = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
    response = server.request(
        "POST", INFER, body=header + content, headers={"Inference-Header-Content-Length": str(len(header))}
    )
    length = int(response.headers["Inference-Header-Content-Length"])
    answer = json.loads(response.data[:length])
    anomaly_map, decision = answer["outputs"]
    values = np.frombuffer(response.data[length:], "<f4").reshape(anomaly_map["shape"])
    assert anomaly_map["parameters"]["binary_data_size"] == len(response.data) - length
    assert values.shape == (2, 80, 96)
    assert np.nanmax(values[1]) > np.nanmax(values[0])
    assert decision["data"] == ["good", "defect"]


@pytest.mark.parametrize(
    ("request_body", "sentence"),
    [
        ({"inputs": []}, "The request holds 0 inputs"),
        ({"inputs": "image"}, "inputs must be a list of objects."),
        ({"inputs": [{"name": "noise", "datatype": "FP32", "shape": [1], "data": [0]}]}, "The input is 'noise'"),
        ({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1], "data": [0]}]}, "The input image is FP32"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1], "data": []}]}, "The input 'image' has the"),
        (
            {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": ["AA=="]}]},
            "The input image needs 2",
        ),
        (
            {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [10**6], "data": []}]},
            "The request holds",
        ),
        (
            {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["?"]}]},
            "The input image holds",
        ),
        ({"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 2, 2], "data": [1, 2]}]}, "The input pixels"),
        ({"inputs": [image_input(b"x")], "outputs": [{"name": "secret"}]}, "The output 'secret' is unknown"),
        (
            {
                "inputs": [
                    {
                        "name": "pixels",
                        "datatype": "UINT8",
                        "shape": [1, 2, 2],
                        "parameters": {"binary_data_size": 10**12},
                    }
                ]
            },
            "The input pixels has binary_data_size 1000000000000",
        ),
    ],
)
def test_wrong_tensors_are_one_sentence(server: Running, request_body: dict, sentence: str) -> None:
    response = server.request("POST", INFER, json=request_body)
    assert response.status == 400
    assert response.json().keys() == {"error"}
    assert response.json()["error"].startswith(sentence)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000])
def test_a_body_that_is_not_an_object_is_refused(server: Running, body: bytes) -> None:
    response = server.request("POST", INFER, body=body)
    assert response.status == 400
    assert response.json()["error"].startswith("The body ")


@pytest.fixture(scope="module")
def messages() -> object:
    return grpc.protos(PROTOCOL)


@pytest.fixture(scope="module")
def stub(server: Running) -> object:
    return grpc.services(PROTOCOL).GRPCInferenceServiceStub(grpc.insecure_channel(f"localhost:{server.grpc_port}"))


def test_grpc_infers_from_contents_and_from_raw_bytes(stub, messages, defect: bytes) -> None:
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1]}
    in_contents = stub.ModelInfer(
        messages.ModelInferRequest(
            model_name="plates", id="9", inputs=[{**tensor, "contents": {"bytes_contents": [defect]}}]
        )
    )
    pixels = photograph(99, defect=True)
    raw = stub.ModelInfer(
        messages.ModelInferRequest(
            model_name="plates",
            inputs=[{"name": "pixels", "datatype": "UINT8", "shape": [1, *pixels.shape]}],
            raw_input_contents=[pixels.tobytes()],
            outputs=[{"name": "score"}],
        )
    )
    assert [output.name for output in in_contents.outputs] == ["score", "decision", "boxes"]
    assert in_contents.id == "9"
    assert in_contents.raw_output_contents[1] == struct.pack("<I", 6) + b"defect"
    assert raw.raw_output_contents[0] == in_contents.raw_output_contents[0]


def test_grpc_health_metadata_and_errors(stub, messages) -> None:
    assert stub.ServerLive(messages.ServerLiveRequest()).live
    assert stub.ServerReady(messages.ServerReadyRequest()).ready
    assert stub.ModelReady(messages.ModelReadyRequest(name="plates")).ready
    assert stub.ServerMetadata(messages.ServerMetadataRequest()).name == "vqi"
    assert len(stub.ModelMetadata(messages.ModelMetadataRequest(name="plates")).outputs) == 4
    with pytest.raises(grpc.RpcError) as unknown:
        stub.ModelReady(messages.ModelReadyRequest(name="bolts"))
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as wrong:
        stub.ModelInfer(messages.ModelInferRequest(model_name="plates"))
    assert wrong.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert wrong.value.details() == "The request holds 0 inputs; it must hold one: image or pixels."
