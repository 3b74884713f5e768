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

from vqi.detectors.arrays import Array, identity_of, in_float32, in_float64, namespace
from vqi.detectors.triangles import cholesky, inverse_of_lower


def left_out_distances(values: Array, lengths: Sequence[int], regularisation: float) -> Array:
    """float32 [P, n], at each of P positions: how far each of `values` [P, n, d] lies from those outside its fold.

    `lengths`: the folds' numbers of rows, one after another; each leaves at least two. The distance is the root of c'
    (S / (m - 1) + `regularisation` I)⁻¹ c for the m others, their scatter S, and c, the row less their mean. Raises
    RunFailed where a covariance is not positive definite.
    """
    xp, centred = namespace(values), in_float64(values)
    centred -= centred.mean(axis=1)[:, None]
    positions, count, channels = centred.shape
    few = count <= channels
    matrix = centred @ centred.mT if few else centred.mT @ centred
    total = matrix.diagonal(0, 1, 2).sum(axis=1)[:, None, None]
    if few:
        # The constant is the direction in which the Gram matrix is singular: it is made as large as all others
        # together, and taken off again below.
        matrix += total / count
    identity = identity_of(centred, matrix.shape[1])
    starts = list(accumulate(lengths, initial=0))[:-1]
    squares = xp.empty_like(centred[..., 0])
    for length in sorted(set(lengths)):
        folds = [start for start, other in zip(starts, lengths, strict=True) if other == length]
        rows = [start + offset for start in folds for offset in range(length)]
        left = count - length
        ridge = regularisation * (left - 1)
        inverse = inverse_of_lower(cholesky(matrix + ridge * identity))
        solved = inverse[..., rows] if few else inverse @ centred[:, rows].mT
        solved = solved.mT.reshape(positions, len(folds), length, -1)
        products = solved @ solved.mT  # [P, folds, k, k]
        if few:  # I - X (X'X + s I)⁻¹ X' = s (X X' + s I)⁻¹
            residuals = ridge * products - (ridge / (ridge + total) / count)[..., None]
        else:
            residuals = identity_of(centred, length) - 1 / count - products
        diagonal = xp.square(inverse_of_lower(cholesky(residuals))).sum(axis=2)
        squares[:, rows] = ((left - 1) * (diagonal - 1 - 1 / left)).reshape(positions, -1)
    return in_float32(xp.sqrt(xp.clip(squares, 0, None)))
