"""Deep-feature modelling: what is fitted to features and scores them. Needs no torch where its embeddings are NumPy's.

Ahuja et al., "Probabilistic Modeling of Deep Features for Out-of-Distribution and Adversarial Detection", arXiv
1909.11786. The score is the feature-reconstruction error, as in Intel's visual-inspection system.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from vqi.detectors.arrays import Array, is_tensor, namespace, to_numpy
from vqi.detectors.engine_record import EngineRecord
from vqi.detectors.grids import Grid, averaging
from vqi.detectors.indexed import Indexed, Scores
from vqi.detectors.on_engine import OnEngine
from vqi.detectors.principal import leading, principal_components
from vqi.detectors.settings.dfm import DfmSettings
from vqi.detectors.upsampling import Upsampling
from vqi.platform.errors import BadInput
from vqi.platform.memory import announce


class Pooling:
    """How an embedding is pooled: cells of `pool` x `pool` positions of `grid`.

    Where `pool` does not divide an axis its cells are equal all the same, and a little smaller: 15 positions pooled by
    2 are 8 cells of 1.875, and a position between two of them counts in each by its share. So every position counts
    once, and no cell is noisier than the others.
    """

    def __init__(self, grid: Grid, pool: int) -> None:
        """Raises BadInput where the grid is smaller than a cell."""
        if pool > min(grid.shape):
            raise BadInput(
                f"method.settings.pool is {pool}, more than the feature map of {grid.shape[0]} x {grid.shape[1]}; "
                "lower it."
            )
        self.grid = Grid(*(axis.regrouped(-(-axis.count // pool)) for axis in grid))
        self.shape = self.grid.shape
        self.even = all(count % pool == 0 for count in grid.shape)
        # float32 [cells, positions]: the matrices of rows and columns.
        self.rows, self.columns = (
            averaging(count, parts).astype(np.float32) for count, parts in zip(grid.shape, self.shape, strict=True)
        )


class Subspace(Indexed):
    """A linear subspace of normal features; an image is as anomalous as what the subspace leaves out of it."""

    method: ClassVar[str] = "dfm"

    settings: DfmSettings
    embedding_grid: Grid
    pooling: Pooling
    # What averages rows and columns over the cells, and what brings a map to the input's size.
    pool_rows: Array
    pool_columns: Array
    upsample: Callable[[Array], Array]

    @property
    def map_grid(self) -> Grid:
        """Where the values of a map lie before it is brought to the input's size."""
        return self.embedding_grid if self.settings.localisation == "patch" else self.pooling.grid

    def fit(self, embeddings: Iterable[Array], images: int) -> dict[str, Array]:
        """`mean` [d] and `components` [k, d] of the pooled, flattened maps [N, C, h, w]; for localisation by patches
        `patch_mean` [C], `patch_components` [l, C].

        Raises BadInput where there are fewer than two normals.
        """
        if images < 2:
            raise BadInput(f"dfm needs at least 2 normals to find a direction in which they vary; there are {images}.")
        rows = first = second = np.empty(0)
        filled = patches = 0
        for embedding in embeddings:
            pooled, channels = to_numpy(self._pool(embedding)), embedding.shape[1]
            if not filled:
                announce(f"features of {images} normals", 4 * images * pooled.shape[1] * 2)
                rows = np.empty((images, pooled.shape[1]), dtype=np.float32)
                first, second = np.zeros(channels), np.zeros((channels, channels))
            rows[filled : filled + len(pooled)] = pooled
            filled += len(pooled)
            if self.settings.localisation == "patch":
                vectors = _patches(to_numpy(embedding)).astype(np.float64)
                first += vectors.sum(axis=0)
                second += vectors.T @ vectors
                patches += len(vectors)
        mean, components = principal_components(rows[:filled], self.settings.variance)
        index = {"mean": mean, "components": components}
        if self.settings.localisation == "patch":
            patch_mean = first / patches
            variances, directions = np.linalg.eigh(second / patches - np.outer(patch_mean, patch_mean))
            count = leading(variances[::-1], self.settings.variance)
            index |= {
                "patch_mean": patch_mean.astype(np.float32),
                "patch_components": np.ascontiguousarray(directions[:, ::-1][:, :count].T, dtype=np.float32),
            }
        return {name: self.own(values) for name, values in index.items()}

    def _pool(self, embedding: Array) -> Array:
        """[N, C, h, w] -> [N, C cells]."""
        if self.pooling.even:
            cells = _cell_means(embedding, self.settings.pool)
        else:
            cells = self.pool_rows @ embedding @ self.pool_columns.T
        return cells.reshape(-1, embedding.shape[1] * math.prod(self.pooling.shape))

    def score(self, embedding: Array, index: Mapping[str, Array]) -> Scores:
        """The squared reconstruction error of the whole image, and that of every position as the map: float32 [N, C, h,
        w] -> Scores."""
        square = namespace(embedding).square
        errors = square(_residual(self._pool(embedding), index["mean"], index["components"]))
        if self.settings.localisation == "error":
            grid = errors.reshape(-1, embedding.shape[1], *self.pooling.shape).sum(axis=1)
        else:
            residual = _residual(_patches(embedding), index["patch_mean"], index["patch_components"])
            grid = square(residual).sum(axis=1).reshape(-1, *self.embedding_grid.shape)
        return Scores(errors.sum(axis=1), self.upsample(grid))


class SubspaceOnEngine(OnEngine, Subspace):
    """Dfm whose network an engine runs."""

    def __init__(
        self, settings: DfmSettings, input_size: tuple[int, int], seed: int, folder: Path, record: EngineRecord
    ) -> None:
        super().__init__(settings, input_size, seed, folder, record)
        self.pooling = Pooling(self.embedding_grid, settings.pool)
        self.pool_rows, self.pool_columns = self.pooling.rows, self.pooling.columns
        self.upsample = Upsampling(self.map_grid, input_size, settings.smoothing)


def _cell_means(values: Array, size: int) -> Array:
    """[N, C, h, w] -> [N, C, h / size, w / size]."""
    if is_tensor(values):
        return namespace(values).nn.functional.avg_pool2d(values, size)
    count, channels, height, width = values.shape
    return values.reshape(count, channels, height // size, size, width // size, size).mean(axis=(3, 5))


def _patches(embedding: Array) -> Array:
    """[N, C, h, w] -> [N h w, C]."""
    return namespace(embedding).moveaxis(embedding, 1, 3).reshape(-1, embedding.shape[1])


def _residual(values: Array, mean: Array, components: Array) -> Array:
    """x - PCA⁻¹(PCA(x)) of `values` [n, d]."""
    centred = values - mean
    return centred - (centred @ components.T) @ components
