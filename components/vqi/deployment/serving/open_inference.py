"""The Open Inference Protocol v2 (KServe, Triton), apart from how it travels: tensors in, predictions, tensors out.

https://github.com/kserve/open-inference-protocol. A request holds one tensor: `image`, BYTES [N], files as they are,
or `pixels`, UINT8 [N, H, W, 3] (RGB) or [N, H, W] (grey).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as version_of

import numpy as np

from vqi.deployment.predictor import ImageSource, Prediction, Unreadable
from vqi.deployment.serving.refusals import Refusal, Unpredictable
from vqi.deployment.serving.served_models import ServedModel, ServedModels

SERVER = "vqi"
SERVER_VERSION = version_of("vqi")
EXTENSIONS = ("binary_tensor_data", "model_repository")
PLATFORM = "vqi_bundle"
# Of a request that names none: what is small.
USUAL_OUTPUTS = ("score", "decision", "boxes")


@dataclass(frozen=True)
class TensorType:
    """Name, data type and shape of a tensor, -1 for any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


INPUTS = (TensorType("image", "BYTES", (-1,)), TensorType("pixels", "UINT8", (-1, -1, -1, 3)))
OUTPUTS = (
    TensorType("score", "FP32", (-1,)),
    TensorType("decision", "BYTES", (-1,)),
    TensorType("boxes", "BYTES", (-1,)),
    TensorType("map", "FP32", (-1, -1, -1)),
)


@dataclass(frozen=True)
class Tensor:
    """A tensor of a request or an answer. `values`: of BYTES a list of byte strings, else a numpy array of `shape`."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[bytes] | np.ndarray


@dataclass(frozen=True)
class Inference:
    """What a request asks of a bundle."""

    model: str
    version: str
    inputs: Sequence[Tensor]
    outputs: tuple[str, ...]


def element_count(name: str, shape: Sequence[int]) -> int:
    """How many elements a shape has. Raises Refusal where it is not one."""
    if not 1 <= len(shape) <= 4 or any(not 0 < length < 2**31 for length in shape):
        raise Refusal(f"The input {name!r} has the shape {list(shape)[:5]}; it must have 1 to 4 positive lengths.")
    return math.prod(shape)


def check_input(name: str, datatype: str, shape: Sequence[int], most: int) -> int:
    """How many elements an input has, before any is read. Raises Refusal where it is not one that is taken; `most`
    photographs are."""
    expected = {tensor.name: tensor.datatype for tensor in INPUTS}
    if name not in expected:
        raise Refusal(f"The input is {str(name)[:40]!r}; it must be image or pixels.")
    if datatype != expected[name]:
        raise Refusal(f"The input {name} is {str(datatype)[:20]}; it must be {expected[name]}.")
    count = element_count(name, shape)
    if name == "pixels" and not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))):
        raise Refusal(f"The input pixels has the shape {list(shape)}; it must be [N, H, W, 3] or [N, H, W].")
    photographs = shape[0] if name == "pixels" else count
    if photographs > most:
        raise Refusal(f"The request holds {photographs} photographs, more than {most}.")
    return count


def check_outputs(names: Sequence[str]) -> tuple[str, ...]:
    """The outputs that are asked for, the usual ones where none is. Raises Refusal where one is unknown."""
    known = [tensor.name for tensor in OUTPUTS]
    for name in names:
        if name not in known:
            raise Refusal(f"The output {str(name)[:40]!r} is unknown; there are {', '.join(known)}.")
    return tuple(dict.fromkeys(names)) or USUAL_OUTPUTS


async def infer(models: ServedModels, request: Inference) -> tuple[ServedModel, list[Tensor]]:
    """The version that answered and the outputs. Raises Refusal, and Unpredictable where a photograph cannot be
    read: there is no room for it in a tensor."""
    if len(request.inputs) != 1:
        raise Refusal(f"The request holds {len(request.inputs)} inputs; it must hold one: image or pixels.")
    tensor = request.inputs[0]
    images: list[ImageSource]
    if isinstance(tensor.values, list):
        images = [(f"image {number}", content) for number, content in enumerate(tensor.values, 1)]
    else:
        images = [(f"image {number}", frame) for number, frame in enumerate(tensor.values, 1)]
    model, results = await models.predict(request.model, request.version, images)
    predictions: list[Prediction] = []
    for result in results:
        if isinstance(result, Unreadable):
            raise Unpredictable(result.reason)
        predictions.append(result)
    return model, [_output(name, predictions) for name in request.outputs]


def _output(name: str, predictions: list[Prediction]) -> Tensor:
    number = len(predictions)
    if name == "score":
        return Tensor(name, "FP32", (number,), np.array([p.score for p in predictions], np.float32))
    if name == "decision":
        return Tensor(name, "BYTES", (number,), [p.decision.encode() for p in predictions])
    if name == "boxes":
        return Tensor(name, "BYTES", (number,), [json.dumps(p.boxes).encode() for p in predictions])
    sizes = {p.map.shape for p in predictions}
    if len(sizes) > 1:
        raise Refusal("The photographs have several sizes, and a tensor holds maps of one; ask for each by itself.")
    return Tensor(name, "FP32", (number, *sizes.pop()), np.stack([p.map for p in predictions]).astype(np.float32))
