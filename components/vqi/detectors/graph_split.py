"""An openvino.Model taken in two where features leave the backbone: the network before, what is computed of them after.

In reduced precision only the network runs so, as with torch's autocast: averages, distances and what an index is
compared with are float32. Imports no torch.
"""

from __future__ import annotations

from typing import Any

# The backbone's feature maps are called feature_0, feature_1 ... inside a graph.
FEATURE = "feature_"


def split_model(model: Any) -> tuple[Any, Any]:
    """The network (images -> features), and the rest (features and further inputs -> outputs), both with the names of
    `model`. Raises ValueError where it names no features."""
    import openvino
    from openvino import opset13

    rest = model.clone()
    features = named_values(model, FEATURE)
    if not features:
        raise ValueError("the graph names no features")
    network = openvino.Model(list(features.values()), [model.input("images").get_node()], "network")
    inputs = []
    for name, value in named_values(rest, FEATURE).items():
        stand_in = opset13.parameter(value.get_partial_shape(), value.get_element_type(), name=name)
        reconnect(value, stand_in.output(0))
        stand_in.output(0).set_names({name})
        inputs.append(stand_in)
    further = [entry.get_node() for entry in rest.inputs if entry.get_any_name() != "images"]
    return network, openvino.Model(list(rest.outputs), [*inputs, *further], "rest")


def named_values(model: Any, prefix: str) -> dict[str, Any]:
    """The values inside whose names begin with `prefix`, by name, sorted."""
    values = {}
    for node in model.get_ordered_ops():
        for output in node.outputs():
            for name in output.get_names():
                if name.startswith(prefix):
                    values[name] = output
    return dict(sorted(values.items()))


def reconnect(value: Any, other: Any) -> None:
    """Let everyone who reads `value` read `other`."""
    for reader in value.get_target_inputs():
        reader.replace_source_output(other)
