"""Mahalanobis distances of observations from the regularised Gaussian of all others, in closed form.

With X [n, d] centred on the mean of all and a ridge s, E = I - 11'/n - X (X'X + s I)⁻¹ X' makes the residuals of ridge
regression on X with a free constant. For a fold F of k rows, and R the m = n - k others, the block inverse gives

    (E_FF)⁻¹ = I + 11'/m + C (S_R + s I)⁻¹ C'

where S_R is the scatter of R about its own mean and C [k, d] are the rows of F less that mean: what leave-one-out
residuals are made of (Cook & Weisberg, "Residuals and Influence in Regression", 1982), for several rows and a ridge.
The covariance of R is S_R / (m - 1) + r I, so with s = r (m - 1) the squared distances are m - 1 times the diagonal of
the last term. The one large factor depends on a fold by its length alone; a fold adds the inverse of a k x k block.

In float64: E_FF is as small as s beside the variance, and differences from 1 would lose what float32 has.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from vqi.platform.errors import RunFailed


def left_out_distances(values: Tensor, lengths: Sequence[int], regularisation: float) -> Tensor:
    """float32 [P, n], at each of P positions: how far each of `values` [P, n, d] lies from those outside its fold.

    `lengths`: the folds' numbers of rows, one after another; each leaves at least two. The distance is the root of c'
    (S / (m - 1) + `regularisation` I)⁻¹ c for the m others, their scatter S, and c, the row less their mean. Raises
    RunFailed where a covariance is not positive definite.
    """
    centred = values.double()
    centred -= centred.mean(dim=1, keepdim=True)
    count, channels = centred.shape[1:]
    few = count <= channels
    matrix = centred @ centred.mT if few else centred.mT @ centred
    total = matrix.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
    if few:
        # The constant is the direction in which the Gram matrix is singular: it is made as large as all others
        # together, and taken off again below.
        matrix += total / count
    identity = torch.eye(count, dtype=centred.dtype, device=centred.device)
    starts = list(accumulate(lengths, initial=0))[:-1]
    squares = torch.empty_like(centred[..., 0])
    for length in sorted(set(lengths)):
        folds = [start for start, other in zip(starts, lengths, strict=True) if other == length]
        rows = [start + offset for start in folds for offset in range(length)]
        left = count - length
        ridge = regularisation * (left - 1)
        factor = cholesky(matrix + ridge * identity[: matrix.shape[1], : matrix.shape[1]])
        sides = identity[:, rows].expand(len(centred), -1, -1) if few else centred[:, rows].mT
        solved = torch.linalg.solve_triangular(factor, sides, upper=False).mT.unflatten(1, (len(folds), length))
        products = solved @ solved.mT  # [P, folds, k, k]
        if few:  # I - X (X'X + s I)⁻¹ X' = s (X X' + s I)⁻¹
            residuals = ridge * products - (ridge / (ridge + total) / count)[..., None]
        else:
            residuals = identity[:length, :length] - 1 / count - products
        diagonal = torch.cholesky_inverse(cholesky(residuals)).diagonal(dim1=2, dim2=3)
        squares[:, rows] = ((left - 1) * (diagonal - 1 - 1 / left)).flatten(1)
    return squares.clamp_(min=0).sqrt_().float()


def cholesky(matrices: Tensor) -> Tensor:
    """L [..., d, d] of positive definite matrices L L'. Raises RunFailed where one is not."""
    factor, failed = torch.linalg.cholesky_ex(matrices)
    if failed.any():
        raise RunFailed("A covariance of padim is not positive definite; raise method.settings.regularisation.")
    return factor
