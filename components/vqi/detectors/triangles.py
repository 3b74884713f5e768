"""Cholesky factors of many small matrices, and the inverses of these: NumPy's on a processor, torch's for tensors."""

from __future__ import annotations

import sys

import numpy as np

from vqi.detectors.arrays import Array, identity_of, is_tensor
from vqi.platform.errors import RunFailed

# Triangular matrices of at most so many rows are inverted as any others; larger ones by halves.
SMALL = 16


def cholesky(matrices: Array) -> Array:
    """L [..., d, d] of positive definite matrices L L'. Raises RunFailed where one is not."""
    if is_tensor(matrices):
        factor, failed = sys.modules["torch"].linalg.cholesky_ex(matrices)
        definite = not failed.any()
    else:
        try:
            factor, definite = np.linalg.cholesky(matrices), True
        except np.linalg.LinAlgError:
            definite = False
    if not definite:
        raise RunFailed("A covariance of padim is not positive definite; raise method.settings.regularisation.")
    return factor


def inverse_of_lower(factor: Array) -> Array:
    """The inverses of lower triangular matrices [..., d, d]."""
    if is_tensor(factor):
        identity = identity_of(factor, factor.shape[-1]).expand_as(factor)
        return sys.modules["torch"].linalg.solve_triangular(factor, identity, upper=False)
    size = factor.shape[-1]
    if size <= SMALL:
        return np.tril(np.linalg.inv(factor))
    # [[A, 0], [B, C]] has the inverse [[A⁻¹, 0], [-C⁻¹ B A⁻¹, C⁻¹]].
    half = size // 2
    inverse = np.zeros_like(factor)
    above = inverse_of_lower(np.ascontiguousarray(factor[..., :half, :half]))
    below = inverse_of_lower(np.ascontiguousarray(factor[..., half:, half:]))
    inverse[..., :half, :half], inverse[..., half:, half:] = above, below
    inverse[..., half:, :half] = -below @ (np.ascontiguousarray(factor[..., half:, :half]) @ above)
    return inverse
