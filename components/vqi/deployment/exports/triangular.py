"""Batched products with lower triangular factors in an OpenVINO graph, as PaDiM's Mahalanobis distances are.

At every position a vector is multiplied by a factor of its own, so a graph reads all factors for every batch, and that
takes longer than the products. Here the factors lie as the product reads them, and most of what is above the diagonal
is left out: what is read is three quarters of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

# Blocks of rows that a factor is cut into; each is as long as its last row.
BLOCKS = 2


def with_triangular_blocks(model: Any, index: Mapping[str, np.ndarray]) -> tuple[Any, dict[str, np.ndarray]] | None:
    """The openvino.Model with its lengths of products with lower triangular factors by blocks, and the tensors that go
    in; None where it has no such product. The inputs of `model` are `images` and the tensors of `index`."""
    import openvino

    model, tensors = model.clone(), dict(index)
    inputs = {entry.get_any_name(): entry for entry in model.inputs}
    for name, factors in index.items():
        product = _product(inputs[name])
        if product is None or not _is_triangular(factors):
            continue
        length = next(iter(product.output(0).get_target_inputs())).get_node()
        values, blocks = _lengths(product.input_value(1), name, factors)
        for reader in length.output(0).get_target_inputs():
            reader.replace_source_output(values)
        del tensors[name], inputs[name]
        for block, (parameter, array) in blocks.items():
            tensors[block], inputs[block] = array, parameter.output(0)
    if len(tensors) == len(index):
        return None
    parameters = [entry.get_node() for entry in inputs.values()]
    results = [model.output(name) for name in ("score", "map")]
    return openvino.Model(results, parameters, model.get_friendly_name()), tensors


def _product(factors: Any) -> Any:
    """The product of factors [P, d, d] with vectors [P, d, N] whose lengths alone are read; None where there is
    none."""
    readers = [target.get_node() for target in factors.get_target_inputs()]
    if len(readers) != 1 or readers[0].get_type_name() != "MatMul" or len(factors.get_partial_shape()) != 3:
        return None
    (product,) = readers
    flags, onward = product.get_attributes(), [target.get_node() for target in product.output(0).get_target_inputs()]
    if product.input_value(0) != factors or flags["transpose_a"] or flags["transpose_b"]:
        return None
    if len(onward) != 1 or onward[0].get_type_name() != "ReduceL2" or onward[0].get_attributes()["keep_dims"]:
        return None
    axis = onward[0].input_value(1).get_node()
    return product if axis.get_type_name() == "Constant" and axis.get_data().ravel().tolist() == [1] else None


def _is_triangular(factors: np.ndarray) -> bool:
    upper = np.triu_indices(factors.shape[1], 1)
    return factors.shape[1] == factors.shape[2] >= BLOCKS and not any(matrix[upper].any() for matrix in factors)


def _lengths(vectors: Any, name: str, factors: np.ndarray) -> tuple[Any, dict[str, tuple[Any, np.ndarray]]]:
    """The lengths [P, N] of the products of lower triangular `factors` [P, d, d] with `vectors` [P, d, N]; and the new
    inputs, with what goes into them, by name."""
    from openvino import opset13

    rows = factors.shape[1]
    turned = opset13.transpose(vectors, _integers([0, 2, 1]))
    squares, blocks = None, {}
    ends = [rows * (number + 1) // BLOCKS for number in range(BLOCKS)]
    for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        array = np.ascontiguousarray(factors[:, start:end, :end].transpose(0, 2, 1))
        parameter = opset13.parameter(list(array.shape), np.float32, name=f"{name}_{number}")
        parameter.output(0).set_names({f"{name}_{number}"})
        part = opset13.slice(turned, _integers([0]), _integers([end]), _integers([1]), _integers([2]))
        length = opset13.reduce_l2(opset13.matmul(part, parameter, False, False), _integers([2]), False)
        square = opset13.multiply(length, length)
        squares = square if squares is None else opset13.add(squares, square)
        blocks[f"{name}_{number}"] = (parameter, array)
    return opset13.sqrt(squares).output(0), blocks


def _integers(values: Any) -> Any:
    from openvino import opset13

    return opset13.constant(np.asarray(values, np.int64))
