"""The Open Inference Protocol v2 over HTTP: JSON, and the binary tensor extension."""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from vqi.deployment.serving.open_inference import (
    EXTENSIONS,
    INPUTS,
    OUTPUTS,
    PLATFORM,
    SERVER,
    SERVER_VERSION,
    Inference,
    Tensor,
    TensorType,
    check_input,
    check_outputs,
    infer,
)
from vqi.deployment.serving.refusals import Refusal
from vqi.deployment.serving.served_models import ServedModel, ServedModels
from vqi.platform.errors import VqiError

HEADER_LENGTH = "Inference-Header-Content-Length"
# The length of a byte string before it, in binary tensors.
PREFIX = struct.Struct("<I")


def open_inference_routes(models: ServedModels, most: int) -> APIRouter:
    """The routes of the protocol; a request holds at most `most` photographs."""
    routes = APIRouter(tags=["Open Inference Protocol v2"])

    @routes.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @routes.get("/v2/health/ready")
    async def ready() -> dict[str, bool]:
        return {"ready": bool(models.names)}

    @routes.get("/v2")
    async def server_metadata() -> dict[str, Any]:
        return {"name": SERVER, "version": SERVER_VERSION, "extensions": list(EXTENSIONS)}

    @routes.get("/v2/models")
    async def list_models() -> dict[str, list[str]]:
        return {"models": models.names}

    @routes.get("/v2/models/{name}")
    @routes.get("/v2/models/{name}/versions/{version}")
    async def model_metadata(name: str, version: str = "") -> dict[str, Any]:
        return describe(models.model(name, version))

    @routes.get("/v2/models/{name}/ready")
    @routes.get("/v2/models/{name}/versions/{version}/ready")
    async def model_ready(name: str, version: str = "") -> dict[str, Any]:
        model = models.model(name, version)
        return {"name": model.name, "ready": True}

    @routes.post("/v2/models/{name}/infer", openapi_extra=_INFER_BODY)
    @routes.post("/v2/models/{name}/versions/{version}/infer", openapi_extra=_INFER_BODY)
    async def model_infer(request: Request, name: str, version: str = "") -> Response:
        header, binary = _split(await request.body(), request.headers.get(HEADER_LENGTH))
        inputs = _inputs(header, binary, most)
        wanted = _objects(header, "outputs")
        outputs = check_outputs([_text(output, "name", "an output") for output in wanted])
        model, tensors = await infer(models, Inference(name, version, inputs, outputs))
        everything = bool(_parameters(header).get("binary_data_output"))
        in_binary = {
            output["name"]: bool(_parameters(output).get("binary_data", everything)) for output in wanted
        } or dict.fromkeys(outputs, everything)
        return _response(model, header.get("id"), tensors, in_binary)

    @routes.post("/v2/repository/index")
    async def repository_index() -> list[dict[str, str]]:
        return [{"name": m.name, "version": m.version, "state": "READY"} for m in map(models.model, models.names)]

    @routes.post("/v2/repository/models/{name}/load")
    async def repository_load(name: str) -> dict[str, Any]:
        """Load the version that the bundle's own folder holds now."""
        try:
            changed = await models.reload(name)
        except VqiError as error:
            raise Refusal(f"The version is refused, and the one before is served on: {error}") from error
        return {"name": name, "version": models.model(name).version, "changed": changed}

    return routes


_INFER_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string"},
                        "parameters": {"type": "object"},
                        "inputs": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 1,
                            "items": {
                                "type": "object",
                                "required": ["name", "shape", "datatype", "data"],
                                "properties": {
                                    "name": {"enum": ["image", "pixels"]},
                                    "shape": {"type": "array", "items": {"type": "integer"}},
                                    "datatype": {"enum": ["BYTES", "UINT8"]},
                                    "data": {"type": "array", "items": {}},
                                },
                            },
                        },
                        "outputs": {
                            "type": "array",
                            "items": {"type": "object", "properties": {"name": {"type": "string"}}},
                        },
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


def describe(model: ServedModel) -> dict[str, Any]:
    """A bundle's metadata."""
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": PLATFORM,
        "inputs": [_described(tensor) for tensor in INPUTS],
        "outputs": [_described(tensor) for tensor in OUTPUTS],
        "parameters": {
            "method": model.predictor.sidecar.method,
            "backend": model.predictor.graph.backend,
            "threshold": model.predictor.sidecar.thresholds.image,
            "guarantee": model.predictor.sidecar.calibration.guarantee,
        },
    }


def _described(tensor: TensorType) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _split(body: bytes, length: str | None) -> tuple[dict[str, Any], memoryview]:
    """The JSON of a request, and the binary tensors behind it."""
    if length is None:
        end = len(body)
    elif length.isdecimal() and len(length) < 12 and int(length) <= len(body):
        end = int(length)
    else:
        raise Refusal(f"{HEADER_LENGTH} is {length[:20]!r}; it must be the length of the JSON at the body's beginning.")
    try:
        header = json.loads(body[:end])
    except (ValueError, RecursionError) as error:
        raise Refusal("The body is not readable JSON.") from error
    if not isinstance(header, dict):
        raise Refusal("The body must be a JSON object.")
    return header, memoryview(body)[end:]


def _objects(owner: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    values = owner.get(key) or []
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise Refusal(f"{key} must be a list of objects.")
    return values


def _text(owner: Mapping[str, Any], key: str, what: str) -> str:
    if not isinstance(owner.get(key), str):
        raise Refusal(f"{what} needs {key} as text.")
    return owner[key]


def _parameters(owner: Mapping[str, Any]) -> dict[str, Any]:
    value = owner.get("parameters") or {}
    if not isinstance(value, dict):
        raise Refusal("parameters must be an object.")
    return value


def _inputs(header: Mapping[str, Any], binary: memoryview, most: int) -> list[Tensor]:
    tensors = []
    for entry in _objects(header, "inputs"):
        name, datatype = _text(entry, "name", "an input"), _text(entry, "datatype", "an input")
        shape = entry.get("shape")
        if not isinstance(shape, list) or not all(type(length) is int for length in shape):
            raise Refusal(f"The input {name[:40]!r} needs a shape: a list of whole numbers.")
        count = check_input(name, datatype, shape, most)
        size = _parameters(entry).get("binary_data_size")
        if size is None:
            values = _from_json(name, entry.get("data"), count, shape)
        else:
            if type(size) is not int or not 0 <= size <= len(binary):
                raise Refusal(f"The input {name} has binary_data_size {str(size)[:20]}; the body holds {len(binary)}.")
            values = from_binary(name, binary[:size], count, shape)
            binary = binary[size:]
        tensors.append(Tensor(name, datatype, tuple(shape), values))
    if len(binary):
        raise Refusal(f"The body holds {len(binary)} bytes that belong to no input.")
    return tensors


def _from_json(name: str, data: Any, count: int, shape: Sequence[int]) -> list[bytes] | np.ndarray:
    if not isinstance(data, list):
        raise Refusal(f"The input {name} needs data: a list.")
    if name == "image":
        if len(data) != count or not all(isinstance(value, str) for value in data):
            raise Refusal(f"The input image needs {count} texts: files in Base64.")
        try:
            return [base64.b64decode(value, validate=True) for value in data]
        except (binascii.Error, ValueError) as error:
            raise Refusal("The input image holds what is not Base64.") from error
    try:
        values = np.array(data)
    except (ValueError, RecursionError) as error:
        raise Refusal("The input pixels is not of one shape.") from error
    if values.size != count or values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise Refusal(f"The input pixels needs {count} whole numbers from 0 to 255.")
    return values.astype(np.uint8).reshape(shape)


def from_binary(name: str, data: memoryview | bytes, count: int, shape: Sequence[int]) -> list[bytes] | np.ndarray:
    """A tensor's values from its bytes. Raises Refusal where there are too few or too many."""
    if name == "image":
        contents, position = [], 0
        for _ in range(count):
            start = position + PREFIX.size
            if start > len(data) or start + (length := PREFIX.unpack(data[position:start])[0]) > len(data):
                break
            contents.append(bytes(data[start : start + length]))
            position = start + length
        if len(contents) != count or position != len(data):
            raise Refusal(f"The input image does not hold {count} byte strings, each behind its length (4 bytes).")
        return contents
    if len(data) != count:
        raise Refusal(f"The input pixels has {len(data)} bytes; its shape needs {count}.")
    return np.frombuffer(data, np.uint8).reshape(shape)


def to_binary(tensor: Tensor) -> bytes:
    """A tensor's values as bytes, little-endian."""
    if isinstance(tensor.values, list):
        return b"".join(PREFIX.pack(len(value)) + value for value in tensor.values)
    return np.ascontiguousarray(tensor.values, "<f4").tobytes()


def _response(model: ServedModel, identity: Any, tensors: Sequence[Tensor], in_binary: Mapping[str, bool]) -> Response:
    outputs: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for tensor in tensors:
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if in_binary.get(tensor.name):
            parts.append(to_binary(tensor))
            output["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            output["data"] = _to_json(tensor)
        outputs.append(output)
    answer = {"model_name": model.name, "model_version": model.version, "outputs": outputs}
    if isinstance(identity, str):
        answer["id"] = identity
    if not parts:
        return JSONResponse(answer)
    header = json.dumps(answer).encode()
    return Response(
        b"".join([header, *parts]),
        media_type="application/octet-stream",
        headers={HEADER_LENGTH: str(len(header))},
    )


def _to_json(tensor: Tensor) -> list[Any]:
    """Values row by row; null where the network saw nothing, since JSON has no NaN."""
    if isinstance(tensor.values, list):
        return [value.decode() for value in tensor.values]
    values = tensor.values.astype(np.float64).ravel()
    return [None if math.isnan(value) else value for value in values.tolist()]
