"""Products of many rows with many others on a processor: what nearest neighbours and coresets take their time for.

By OpenVINO where it is installed, in float32: its products take half the time of those of NumPy's and torch's libraries
on AVX-512 (one thread of an EPYC, 4096 x 384 by 384 x 128: 212, 120 and 95 GFLOP/s, 2026-11-29). Which of the two
computes depends on the sizes alone, so the same work gives the same bits in every process.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import numpy as np

from vqi.platform.threads import available_cpus, thread_limit

# Products of fewer multiplications in all are not worth a compiled graph (30 ms).
WORTH_COMPILING = 10**8
# A kernel is made for each size (1 ms), so there are few: rows are filled up to a multiple, others to a power of two.
ROWS, OTHERS = 128, 16


class Products:
    """Products with rows of `length`; `multiplications` are all that will be asked for."""

    def __init__(self, length: int, multiplications: int) -> None:
        self.compiled = multiplications >= WORTH_COMPILING and importlib.util.find_spec("openvino") is not None
        self.length = length

    def least(self, rows: np.ndarray, others: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """For each of `rows` [m, length], the least of its products with `others` [n, length] plus their `offsets`
        [n]: float32 [m]."""
        if not self.compiled:
            products = rows @ others.T
            products += offsets
            return products.min(axis=1)
        size = max(OTHERS, 1 << (len(others) - 1).bit_length())
        # The last one again changes no minimum.
        inputs = _filled(rows, -(-len(rows) // ROWS) * ROWS), _filled(others, size), _filled(offsets, size)
        return _run(_request(self.length, True), *inputs)[: len(rows)].copy()

    def all(self, rows: np.ndarray, others: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Every product of `rows` [m, length] with `others` [n, length] plus their `offsets` [n]: float32 [m, n], valid
        until the next call."""
        if not self.compiled:
            products: np.ndarray = rows @ others.T
            products += offsets
            return products
        return _run(_request(self.length, False), rows, others, offsets)


@cache
def leave_threads_to_openvino() -> None:
    """Keep NumPy's OpenBLAS to one thread: its others wait for work by turning in circles, which took as much processor
    time as all else where the small products of a map are NumPy's and the large ones OpenVINO's."""
    from threadpoolctl import ThreadpoolController

    ThreadpoolController().select(internal_api="openblas").limit(limits=1)


@cache
def _request(length: int, least: bool) -> Any:
    """A compiled graph, made once a process."""
    leave_threads_to_openvino()
    import openvino
    from openvino import opset13 as operations

    rows, others = (operations.parameter([-1, length], np.float32) for _ in range(2))
    offsets = operations.parameter([-1], np.float32)
    result = operations.add(operations.matmul(rows, others, False, True), offsets)
    if least:
        result = operations.reduce_min(result, np.array([1]), False)
    properties = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": thread_limit() or available_cpus(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    model = openvino.Model([result], [rows, others, offsets])
    return openvino.Core().compile_model(model, "CPU", properties).create_infer_request()


def _filled(values: np.ndarray, size: int) -> np.ndarray:
    """`values` [n, ...] and the last of them again, `size` in all."""
    if len(values) == size:
        return values
    filled = np.empty((size, *values.shape[1:]), dtype=np.float32)
    filled[: len(values)], filled[len(values) :] = values, values[-1]
    return filled


def _run(request: Any, *inputs: np.ndarray) -> np.ndarray:
    import openvino

    for number, values in enumerate(inputs):
        request.set_input_tensor(number, openvino.Tensor(np.ascontiguousarray(values), shared_memory=True))
    request.infer()
    return request.output_tensors[0].data
