"""Principal components by whichever matrix is small: the Gram matrix of few long rows, or the covariance of many short
ones. Needs no torch."""

from __future__ import annotations

import warnings

import numpy as np

from vqi.platform.errors import RunFailed

# Columns converted to float64 at once while the Gram matrix is summed.
COLUMNS = 8192


def principal_components(rows: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean [d] and orthonormal components [k, d] of `rows` [n, d], float32, that keep the share `variance` of the
    variance; `rows` are centred in place.

    Raises RunFailed where the components are not orthonormal: the solvers for the covariance have been seen to fail
    silently.
    """
    mean = rows.mean(axis=0)
    rows -= mean
    components = _by_gram(rows, variance) if len(rows) < rows.shape[1] else _by_covariance(rows, variance)
    error = float(np.abs(components @ components.T - np.eye(len(components))).max()) if len(components) else 0.0
    if not error < 1e-3:
        raise RunFailed(
            f"The principal components of {len(rows)} x {rows.shape[1]} values are not orthonormal (error {error:.1e})."
        )
    return mean, components


def leading(variances: np.ndarray, share: float) -> int:
    """How many of `variances` (descending) keep `share` of their sum; those that are rounding errors are never kept."""
    real = int((variances > max(float(variances[0]), 0.0) * 1e-9).sum()) if len(variances) else 0
    if real == 0:
        return 0
    kept = variances[:real].cumsum() / variances[:real].sum()
    return min(int((kept < share - 1e-12).sum()) + 1, real)


def _by_gram(centred: np.ndarray, variance: float) -> np.ndarray:
    """X Xᵀ = U S² Uᵀ gives X = U S V; so V = S⁻¹ Uᵀ X, and no d x d matrix is ever made."""
    gram = np.zeros((len(centred), len(centred)))
    for start in range(0, centred.shape[1], COLUMNS):
        columns = centred[:, start : start + COLUMNS].astype(np.float64)
        gram += columns @ columns.T
    squares, vectors = np.linalg.eigh(gram)
    squares, vectors = squares[::-1], vectors[:, ::-1]
    count = leading(squares, variance)
    components: np.ndarray = (vectors[:, :count] / np.sqrt(squares[:count])).T.astype(np.float32) @ centred
    return components


def _by_covariance(centred: np.ndarray, variance: float) -> np.ndarray:
    """scikit-learn-intelex's PCA of the d x d covariance, where the processor has it; scikit-learn's elsewhere."""
    if not centred.any():
        return centred[:0]
    try:
        from sklearnex.decomposition import PCA
    except ImportError:
        from sklearn.decomposition import PCA
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Never "auto" (a d x d covariance unasked) nor "full" (wrong above 75,000 columns); all components, and the
        # share cut as everywhere else.
        pca = PCA(svd_solver="covariance_eigh").fit(centred)
    count = leading(pca.explained_variance_.astype(np.float64), variance)
    components: np.ndarray = pca.components_[:count].astype(np.float32)
    return components
