"""Principal components by whichever matrix is small: the Gram matrix of few long rows, or the covariance of many short
ones."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from vqi.platform.errors import RunFailed

# Columns converted to float64 at once while the Gram matrix is summed.
COLUMNS = 8192


def principal_components(rows: Tensor, variance: float) -> tuple[Tensor, Tensor]:
    """Mean [d] and orthonormal components [k, d] of `rows` [n, d] that keep the share `variance` of the variance;
    `rows` are centred in place.

    Raises RunFailed where the components are not orthonormal: the solvers for the covariance have been seen to fail
    silently.
    """
    mean = rows.mean(dim=0)
    rows -= mean
    components = _by_gram(rows, variance) if len(rows) < rows.shape[1] else _by_covariance(rows, variance)
    error = (
        float((components @ components.T - torch.eye(len(components), device=components.device)).abs().max())
        if len(components)
        else 0.0
    )
    if not error < 1e-3:
        raise RunFailed(
            f"The principal components of {len(rows)} x {rows.shape[1]} values are not orthonormal (error {error:.1e})."
        )
    return mean, components


def leading(variances: Tensor, share: float) -> int:
    """How many of `variances` (descending) keep `share` of their sum; those that are rounding errors are never kept."""
    real = int((variances > variances[0].clamp(min=0) * 1e-9).sum()) if len(variances) else 0
    if real == 0:
        return 0
    kept = variances[:real].cumsum(0) / variances[:real].sum()
    return min(int((kept < share - 1e-12).sum()) + 1, real)


def _by_gram(centred: Tensor, variance: float) -> Tensor:
    """X Xᵀ = U S² Uᵀ gives X = U S V; so V = S⁻¹ Uᵀ X, and no d x d matrix is ever made."""
    gram = torch.zeros(len(centred), len(centred), dtype=torch.float64, device=centred.device)
    for start in range(0, centred.shape[1], COLUMNS):
        columns = centred[:, start : start + COLUMNS].double()
        gram.addmm_(columns, columns.T)
    squares, vectors = torch.linalg.eigh(gram)
    squares, vectors = squares.flip(0), vectors.flip(1)
    count = leading(squares, variance)
    return (vectors[:, :count] / squares[:count].sqrt()).T.to(centred.dtype) @ centred


def _by_covariance(centred: Tensor, variance: float) -> Tensor:
    """scikit-learn-intelex's PCA of the d x d covariance, where the processor has it; scikit-learn's elsewhere."""
    if not bool(centred.any()):
        return centred[:0]
    try:
        from sklearnex.decomposition import PCA
    except ImportError:
        from sklearn.decomposition import PCA
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Never "auto" (a d x d covariance unasked) nor "full" (wrong above 75,000 columns); all components, and the
        # share cut as everywhere else.
        pca = PCA(svd_solver="covariance_eigh").fit(centred.cpu().numpy())
    count = leading(torch.as_tensor(pca.explained_variance_, dtype=torch.float64), variance)
    return torch.as_tensor(pca.components_[:count], dtype=centred.dtype, device=centred.device).clone()
