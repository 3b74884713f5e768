"""Arrays that the numbers of an index are computed with: NumPy's on a processor, torch's tensors on its accelerators.

What is here needs no torch until it is handed a tensor.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np

# A NumPy array, or a tensor.
Array: TypeAlias = Any


def is_tensor(values: Array) -> bool:
    """Whether `values` are torch's."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def namespace(values: Array) -> Any:
    """The module whose functions take `values`: numpy or torch, which agree in the names used here."""
    return sys.modules["torch"] if is_tensor(values) else np


def on_processor(values: Array) -> Array:
    """The same memory as a NumPy array; a tensor of an accelerator, or of a graph that is being traced, as it is."""
    if not is_tensor(values) or values.device.type != "cpu" or sys.modules["torch"].compiler.is_exporting():
        return values
    return values.detach().numpy()


def to_numpy(values: Array) -> np.ndarray:
    """A NumPy array, copied from an accelerator if need be."""
    return values.detach().cpu().numpy() if is_tensor(values) else np.asarray(values)


def alike(values: np.ndarray, other: Array) -> Array:
    """`values` as a tensor where `other` is one."""
    return sys.modules["torch"].from_numpy(values).to(other.device) if is_tensor(other) else values


def joined(parts: list[Array]) -> Array:
    """`parts` one after the other, along the first axis; a single one is not copied."""
    return parts[0] if len(parts) == 1 else namespace(parts[0]).concatenate(parts)


def empty(shape: tuple[int, ...], like: Array) -> Array:
    """An array of that shape, float32, of the kind of `like` and where it is."""
    return like.new_empty(shape) if is_tensor(like) else np.empty(shape, dtype=np.float32)


def largest_of_rows(values: Array) -> tuple[Array, Array]:
    """The largest of each row of `values` [N, n], and where it is: [N]."""
    if is_tensor(values):
        largest, where = values.max(dim=1)
        return largest, where
    return values.max(axis=1), values.argmax(axis=1)


def values_at(values: Array, where: Array) -> Array:
    """Of each row of `values` [N, n] the one at `where` [N]."""
    if is_tensor(values):
        return values.gather(1, where[:, None]).squeeze(1)
    return np.take_along_axis(values, where[:, None], 1)[:, 0]


def rows_at(values: Array, where: Array) -> Array:
    """Of each of `values` [N, n, C] the row at `where` [N]: [N, 1, C]."""
    if is_tensor(values):
        return values.gather(1, where[:, None, None].expand(-1, 1, values.shape[2]))
    return np.take_along_axis(values, where[:, None, None], 1)


def log_sum_exp(values: Array) -> Array:
    """The logarithm of the sum of exp of each row of `values` [N, n]."""
    return values.logsumexp(dim=1) if is_tensor(values) else np.logaddexp.reduce(values, axis=1)


def in_float64(values: Array) -> Array:
    """A copy in float64."""
    return values.double() if is_tensor(values) else values.astype(np.float64)


def in_float32(values: Array) -> Array:
    """A copy in float32."""
    return values.float() if is_tensor(values) else values.astype(np.float32)


def identity_of(values: Array, size: int) -> Array:
    """The identity [size, size], of the type of `values` and where they are."""
    if is_tensor(values):
        return sys.modules["torch"].eye(size, dtype=values.dtype, device=values.device)
    return np.eye(size, dtype=values.dtype)
