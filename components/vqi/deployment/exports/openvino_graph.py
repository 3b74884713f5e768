"""The OpenVINO model of a bundle, with the network that its index was built with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vqi.detectors.graph_split import named_values, reconnect
from vqi.platform.errors import RunFailed

EMBEDDING = "embedding"
# Where a model says what its network computes in.
PRECISION = ["vqi", "precision"]


def with_network(model: Any, network: Any, precision: str) -> Any:
    """The openvino.Model `model` (images and index in, score and map out) with `network` (images in, embeddings out) in
    place of what computes its value `embedding`. Raises RunFailed where it has none.
    """
    import openvino

    inside = named_values(model, EMBEDDING).get(EMBEDDING)
    if inside is None:
        raise RunFailed("the graph has lost its embeddings")
    images = network.inputs[0].get_node()
    reconnect(inside, network.outputs[0].get_node().input_value(0))
    reconnect(model.input("images").get_node().output(0), images.output(0))
    index = [entry.get_node() for entry in model.inputs if entry.get_any_name() != "images"]
    results = [model.output(name) for name in ("score", "map")]
    whole = openvino.Model(results, [images, *index], model.get_friendly_name())
    images.output(0).set_names({"images"})
    whole.set_rt_info(precision, PRECISION)
    return whole


def for_one(model: Any, index: Mapping[str, np.ndarray]) -> Any:
    """The openvino.Model for a single image, with the sizes of `index`."""
    model = model.clone()
    height, width = (side.get_length() for side in list(model.input("images").get_partial_shape())[2:])
    model.reshape({"images": [1, 3, height, width], **{name: list(value.shape) for name, value in index.items()}})
    return model


def precision_of(model: Any) -> str:
    """What the network of a model computes in."""
    return str(model.get_rt_info(PRECISION).astype(str)) if model.has_rt_info(PRECISION) else "float32"
