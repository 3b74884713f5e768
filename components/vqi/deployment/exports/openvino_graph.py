"""OpenVINO models put together and taken apart at the embeddings: the network before them, the scoring after them.

The network of a bundle is the graph that its index was built with. Where it ran in reduced precision it runs so in the
bundle, and the scoring in float32: differences of features in bfloat16 would be rounding alone.
"""

from __future__ import annotations

from typing import Any

from vqi.platform.errors import RunFailed

EMBEDDING = "embedding"
# Where a model says what its network computes in.
PRECISION = ["vqi", "precision"]


def with_network(model: Any, network: Any, precision: str) -> Any:
    """The openvino.Model `model` (images and index in, score and map out) with `network` (images in, embeddings out) in
    place of what computes its value `embedding`. Raises RunFailed where it has none.
    """
    import openvino

    inside = _value(model, EMBEDDING)
    if inside is None:
        raise RunFailed("the graph has lost its embeddings")
    images = network.inputs[0].get_node()
    _reconnect(inside, network.outputs[0].get_node().input_value(0))
    _reconnect(model.input("images").get_node().output(0), images.output(0))
    index = [entry.get_node() for entry in model.inputs if entry.get_any_name() != "images"]
    whole = openvino.Model(
        [model.output(name) for name in ("score", "map")], [images, *index], model.get_friendly_name()
    )
    _name(images.output(0), "images")
    _name(network.outputs[0].get_node().input_value(0), EMBEDDING)
    whole.set_rt_info(precision, PRECISION)
    return whole


def precision_of(model: Any) -> str:
    """What the network of a model computes in."""
    return str(model.get_rt_info(PRECISION).astype(str)) if model.has_rt_info(PRECISION) else "float32"


def split_model(model: Any) -> tuple[Any, Any]:
    """The network (images -> embedding), and the scoring (embedding and index -> score and map) of a model that
    `with_network` made; `model` itself is used up."""
    import openvino
    from openvino import opset13

    inside = _value(model, EMBEDDING)
    images = model.input("images").get_node()
    network = openvino.Model([inside], [images], "network")
    embedding = opset13.parameter(inside.get_partial_shape(), inside.get_element_type(), name=EMBEDDING)
    results = [model.output(name) for name in ("score", "map")]
    _reconnect(inside, embedding.output(0), but=network.outputs[0].get_node())
    _name(embedding.output(0), EMBEDDING)
    index = [entry.get_node() for entry in model.inputs if entry.get_any_name() != "images"]
    return network, openvino.Model(results, [embedding, *index], "scoring")


def _value(model: Any, name: str) -> Any:
    for node in model.get_ordered_ops():
        for output in node.outputs():
            if name in output.get_names():
                return output
    return None


def _reconnect(value: Any, other: Any, but: Any = None) -> None:
    """Let everyone who reads `value` read `other`, but for the node `but`."""
    for reader in value.get_target_inputs():
        if but is None or reader.get_node().get_friendly_name() != but.get_friendly_name():
            reader.replace_source_output(other)


def _name(value: Any, name: str) -> None:
    value.set_names({name})
