"""The search for nearest neighbours of an OpenVINO graph, by a pre-selection in eight bits.

Of every patch and every item the graph takes one product in float32, most of its time. Here that product is in int8,
four times as quick where the processor has instructions for it; a few candidates that it ranks first are then compared
exactly, in float32. What is found is exact wherever the nearest items are among the candidates; the parity gate
measures how often they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from vqi.deployment.exports.openvino_graph import for_one
from vqi.detectors.graph_split import reconnect

# Where a model says how its searches may be run, and the two ways.
NEIGHBOURS = ["vqi", "neighbours"]
PRESELECTED, EXACT = "preselected", "exact"
# The share of the nearest items that has to be found.
LEAST_RECALL = 0.995

# Items that are compared exactly are this many more than those wanted. Measured on cookie and hazelnut with three
# wanted: of five more, all three nearest for each patch of a greedy bank of 2,000, and for .9997 of a random one of
# 16,000.
MORE = 5
# The bank is dealt into groups, at least FEWEST_GROUPS; the least value of each column of one item a group is looked at
# first, and the items of the best columns then, so many columns more than items are wanted.
FEWEST_GROUPS, MORE_COLUMNS = 8, 3
# Queries may lie this many times as far out as the bank's items before they are cut off in int8.
RANGE = 1.5
# Bytes of products held at once, and the patches that they are of: what lies in a cache is read again for nothing.
TILE, FEWEST, MOST = 2**22, 64, 256
# Smaller banks are not worth it.
LEAST_BANK = 256
# A column of items that do not exist is never the least.
FAR = np.float32(1e30)


class Search(NamedTuple):
    """Where a graph looks for the `wanted` nearest items of the input `bank` for each of `queries` [Q, C]: its values
    `distances` and `items`, [Q, wanted]."""

    bank: Any
    queries: Any
    wanted: int
    distances: Any
    items: Any


class Preselected(NamedTuple):
    """A model that searches by a pre-selection; and for each of its searches the items [Q, count] that the exact one
    finds beside those that are found now."""

    model: Any
    pairs: list[tuple[Any, Any]]


def preselects(model: Any) -> bool:
    """Whether a model's searches may be run by a pre-selection."""
    return bool(model.has_rt_info(NEIGHBOURS) and model.get_rt_info(NEIGHBOURS).astype(str) == PRESELECTED)


def recall(preselected: Preselected, images: np.ndarray) -> float:
    """The share of the nearest items of `images` float32 [n, 3, h, w] that the pre-selection finds as well."""
    import openvino

    outputs = [value for pair in preselected.pairs for value in pair]
    model = openvino.Model(outputs, [preselected.model.input("images").get_node()], "neighbours")
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    hits = wanted = 0
    for number in range(len(images)):
        items = list(compiled(images[number : number + 1]).values())
        for exact, chosen in zip(items[::2], items[1::2], strict=True):
            hits += int(np.count_nonzero((exact[:, :, None] == chosen[:, None, :]).any(axis=2)))
            wanted += exact.size
    return hits / wanted


def searches(model: Any) -> list[Search]:
    """The exact searches of an openvino.Model, as `vqi.detectors.nearest` is exported."""
    return [search for node in model.get_ordered_ops() if node.get_type_name() == "TopK" and (search := _search(node))]


def _search(topk: Any) -> Search | None:
    """The search that a TopK ends: norms - 2 queries bankᵀ go in, and items go on to their distances."""
    product = next((node for node in _above(topk, 3) if node.get_type_name() == "MatMul"), None)
    if product is None or topk.get_attributes()["mode"] != "min":
        return None
    bank, count = product.input_value(1), topk.input_value(1).get_node()
    if bank.get_node().get_type_name() == "Transpose":  # which OpenVINO makes a part of the product where sizes are set
        bank = bank.get_node().input_value(0)
    if bank.get_node().get_type_name() != "Parameter" or count.get_type_name() != "Constant":
        return None
    for node in _below(topk.output(1), 4):
        if node.get_type_name() == "ReduceL2":
            return Search(bank, product.input_value(0), int(count.get_data()), node.output(0), topk.output(1))
    return None


def _above(node: Any, depth: int) -> Iterator[Any]:
    """What the first input of a node is computed from, the nearest first."""
    for _ in range(depth):
        if not node.get_input_size():
            return
        node = node.input_value(0).get_node()
        yield node


def _below(value: Any, depth: int) -> Iterator[Any]:
    """What reads a value, and what reads that."""
    for reader in value.get_target_inputs():
        node = reader.get_node()
        yield node
        if depth > 1:
            for output in node.outputs():
                yield from _below(output, depth - 1)


def with_preselection(model: Any, index: Mapping[str, np.ndarray]) -> Preselected | None:
    """The openvino.Model with its index inside, for one image, and its searches by a pre-selection; None where there is
    nothing to gain. The inputs of `model` are `images` and the tensors of `index`."""
    import openvino
    from openvino import opset13

    model = for_one(model, index)
    images = model.input("images")
    names = {entry.get_node().get_friendly_name(): entry.get_any_name() for entry in model.inputs}
    replaced = []
    for search in searches(model):
        bank = index[names[search.bank.get_node().get_friendly_name()]]
        if search.queries.get_shape()[0] < FEWEST or len(bank) < LEAST_BANK:
            continue
        distances, items = nearest(search.queries, bank, search.wanted)
        readers = search.distances.get_target_inputs(), search.items.get_target_inputs()
        for values, value in zip(readers, (distances, opset13.convert(items, "i64").output(0)), strict=True):
            for reader in values:
                reader.replace_source_output(value)
        replaced.append((search.items, items))
    if not replaced:
        return None
    for name, value in index.items():
        reconnect(model.input(name), opset13.constant(value, shared_memory=True).output(0))
    results = [model.output(name) for name in ("score", "map")]
    return Preselected(openvino.Model(results, [images.get_node()], model.get_friendly_name()), replaced)


def nearest(queries: Any, bank: np.ndarray, count: int) -> tuple[Any, Any]:
    """The `count` nearest items of `bank` float32 [M, C] for each of the graph's `queries` [Q, C], nearest first: their
    distances, float32, and their numbers, int32, both [Q, count]."""
    from openvino import opset13

    mean = bank.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = bank - mean
    groups = groups_of(len(bank))
    length = -(-len(bank) // groups)
    norms = np.full(length * groups, FAR, np.float32)
    norms[: len(bank)] = np.square(centred, dtype=np.float64).sum(axis=1)
    items = np.zeros((length * groups, bank.shape[1]), np.float32)
    items[: len(bank)] = -2 * centred
    ranges = np.maximum(np.abs(items).max(axis=1, keepdims=True), np.float32(1e-6))
    weights = _rounded(opset13.constant(items), ranges, 255)
    points = opset13.subtract(queries, opset13.constant(mean[None]))
    points = _rounded(points, np.maximum(np.float32(RANGE) * np.abs(centred).max(keepdims=True), np.float32(1e-6)), 256)

    rows = queries.get_shape()[0]
    tile = min(max(TILE // (4 * len(norms)), FEWEST), MOST)
    tiles = -(-rows // tile)
    lengths = [rows * (number + 1) // tiles - rows * number // tiles for number in range(tiles)]
    exact = opset13.constant(bank, shared_memory=True)
    results = []
    for part, vectors in zip(_split(points, lengths), _split(queries, lengths), strict=True):
        values = opset13.add(opset13.matmul(part, weights, False, True), opset13.constant(norms[None]))
        columns = min(count + MORE_COLUMNS, length)
        candidates = _candidates(values, groups, columns, min(count + MORE, columns * groups))
        results.append(_exactly(vectors, exact, candidates, count))
    distances, numbers = (opset13.concat(list(parts), 0) for parts in zip(*results, strict=True))
    return distances.output(0), numbers.output(0)


def _rounded(values: Any, largest: np.ndarray, levels: int) -> Any:
    """Values in int8: 255 levels are symmetric, 256 have one more below."""
    from openvino import opset13

    low = opset13.constant(-largest * np.float32(128 / 127 if levels == 256 else 1))
    high = opset13.constant(largest)
    return opset13.fake_quantize(values, low, high, low, high, levels)


def _split(values: Any, lengths: list[int]) -> list[Any]:
    from openvino import opset13

    if len(lengths) == 1:
        return [values]
    return list(opset13.variadic_split(values, _integers(0), _integers(lengths)).outputs())


def groups_of(items: int) -> int:
    """Into how many groups so many items are dealt: a power of two near the root, where both steps take as long."""
    return max(FEWEST_GROUPS, 2 ** round(math.log2(items / 16) / 2))


def _candidates(values: Any, groups: int, columns: int, count: int) -> Any:
    """The numbers of the `count` least of `values` [Q, groups * length] among the `columns` best columns, int32
    [Q, count].

    TopK is quick along the first axis, where queries lie side by side in a register: values are turned for it.
    """
    from openvino import opset13

    rows, width = values.output(0).get_shape()
    length = width // groups
    dealt = opset13.reshape(values, _integers([rows, groups, length]), False)
    least = _turned(opset13.reduce_min(dealt, _integers([1]), False))
    best = _least(least, columns).output(1)
    of_query = opset13.unsqueeze(opset13.transpose(best, _integers([1, 0])), _integers([1]))
    members = opset13.broadcast(of_query, _integers([rows, groups, columns]))
    kept = opset13.reshape(opset13.gather_elements(dealt, members, 2), _integers([rows, groups * columns]), False)
    firsts = opset13.constant((np.arange(groups, dtype=np.int32) * length)[:, None, None])
    numbers = opset13.add(opset13.unsqueeze(best, _integers([0])), firsts)
    numbers = opset13.reshape(numbers, _integers([groups * columns, rows]), False)
    chosen = opset13.gather_elements(numbers, _least(_turned(kept), count).output(1), 0)
    return opset13.transpose(chosen, _integers([1, 0]))


def _exactly(queries: Any, bank: Any, candidates: Any, count: int) -> tuple[Any, Any]:
    """The `count` nearest of the `candidates` [Q, n], by differences in float32, nearest first: distances and numbers,
    [Q, count]."""
    from openvino import opset13

    turn = _integers([1, 0])
    items = opset13.gather(bank, candidates, _integers(0))
    difference = opset13.subtract(opset13.unsqueeze(queries, _integers([1])), items)
    distances = opset13.transpose(opset13.reduce_l2(difference, _integers([2]), False), turn)
    first = _least(distances, count, "value")
    numbers = opset13.gather_elements(opset13.transpose(candidates, turn), first.output(1), 0)
    return opset13.transpose(first.output(0), turn), opset13.transpose(numbers, turn)


def _least(values: Any, count: int, order: str = "none") -> Any:
    from openvino import opset13

    return opset13.topk(values, _integers(count), 0, "min", order, index_element_type="i32")


def _turned(values: Any) -> Any:
    """[a, b] -> [b, a], in the form that OpenVINO has a quick kernel for."""
    from openvino import opset13

    rows, columns = values.output(0).get_shape()
    turned = opset13.transpose(
        opset13.reshape(values, _integers([1, rows, 1, columns]), False), _integers([0, 3, 1, 2])
    )
    return opset13.reshape(turned, _integers([columns, rows]), False)


def _integers(values: Any) -> Any:
    from openvino import opset13

    return opset13.constant(np.asarray(values, np.int64))
