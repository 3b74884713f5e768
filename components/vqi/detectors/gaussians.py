"""PaDiM's Gaussians: Defard et al., "a Patch Distribution Modeling Framework for Anomaly Detection and Localization",
arXiv 2011.08785. Need no torch where their embeddings are NumPy's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import ClassVar

import numpy as np

from vqi.detectors.arrays import Array, empty, identity_of, joined, namespace
from vqi.detectors.engine_record import EngineRecord
from vqi.detectors.indexed import Indexed, Scores
from vqi.detectors.left_out import left_out_distances
from vqi.detectors.on_engine import OnEngine
from vqi.detectors.settings.padim import PadimSettings
from vqi.detectors.triangles import cholesky, inverse_of_lower
from vqi.detectors.upsampling import Upsampling
from vqi.platform.errors import BadInput
from vqi.platform.memory import announce
from vqi.platform.progress import Progress

# Positions computed at once: bounds what that needs beside the covariances themselves.
POSITIONS = 256
# Bytes of embeddings held at once while normals are left out in closed form; where all take more, they are read several
# times, some positions each. float64 takes a few times LEFT_OUT_BLOCK beside them.
LEFT_OUT_MEMORY, LEFT_OUT_BLOCK = 2**30, 2**25
# Maps that are upsampled at once.
MAPS = 8


class Gaussians(Indexed):
    """A Gaussian of normal features at every position; a position is as anomalous as its Mahalanobis distance."""

    method: ClassVar[str] = "padim"

    settings: PadimSettings
    # Height, width and channels of an embedding, and what brings a map of it to the input's size.
    grid: tuple[int, int]
    channels: int
    upsample: Callable[[Array], Array]

    def fit(self, embeddings: Iterable[Array], images: int) -> dict[str, Array]:
        """Section III-B: `mean` [P, d] and `whitening` [P, d, d] = L⁻¹, where L Lᵀ is the regularised covariance (eq.
        1), for P = h w positions.

        One pass: mean and scatter are merged batch by batch (Chan, Golub & LeVeque 1979), and the scatter becomes the
        factor in place. Raises BadInput where there are fewer than two normals.
        """
        if images < 2:
            raise BadInput(f"padim needs at least 2 normals to estimate a covariance; there are {images}.")
        positions, channels = self.grid[0] * self.grid[1], self.channels
        announce(f"Gaussians of {channels} channels at {positions} positions", 4 * positions * channels**2)
        mean: Array = ()
        scatter: Array = ()
        seen = 0
        for embedding in embeddings:
            values = embedding.reshape(len(embedding), positions, channels)
            if not seen:
                mean, scatter = empty((positions, channels), values), empty((positions, channels, channels), values)
                mean[:], scatter[:] = 0, 0
            batch_mean = values.mean(axis=0)
            shift = batch_mean - mean
            weight = seen * len(values) / (seen + len(values))
            # The shift between the two means is one more observation, so that one product a position updates the
            # scatter.
            rows = namespace(values).moveaxis(joined([values - batch_mean, weight**0.5 * shift[None]]), 0, 1)
            for start in range(0, positions, POSITIONS):
                part = rows[start : start + POSITIONS]
                scatter[start : start + POSITIONS] += part.mT @ part
            seen += len(values)
            mean += shift * (len(values) / seen)
        return {"mean": mean, "whitening": self._factorise(scatter, seen)}

    def _factorise(self, scatter: Array, seen: int) -> Array:
        """Scatter matrices [P, d, d] of `seen` images -> L⁻¹ of their covariances, in place."""
        ridge = self.settings.regularisation * identity_of(scatter, scatter.shape[1])
        for start in range(0, len(scatter), POSITIONS):
            covariance = scatter[start : start + POSITIONS] / (seen - 1) + ridge
            scatter[start : start + POSITIONS] = inverse_of_lower(cholesky(covariance))
        return scatter

    def score(self, embedding: Array, index: Mapping[str, Array]) -> Scores:
        """Eq. 2, the Mahalanobis distance, as |L⁻¹ (x - mean)|: float32 [N, h, w, d] -> maps, and their maxima as image
        scores."""
        xp = namespace(embedding)
        centred = embedding.reshape(-1, self.grid[0] * self.grid[1], embedding.shape[-1]) - index["mean"]
        # Images last: the factors, 160 MB of them, are read as they lie. Turned they would be copied at every call.
        whitened = xp.matmul(index["whitening"], xp.moveaxis(centred, 0, 2))
        return self._scores_of(xp.linalg.vector_norm(whitened, axis=1).T)

    def _scores_of(self, distance: Array) -> Scores:
        """Maps of Mahalanobis distances [N, P], and their maxima as image scores."""
        anomaly_map = self.upsample(distance.reshape(-1, *self.grid))
        return Scores(namespace(anomaly_map).amax(anomaly_map, (1, 2)), anomaly_map)

    def left_out_scores(
        self, embeddings: Callable[[Sequence[int]], Iterable[Array]], folds: Sequence[Sequence[int]]
    ) -> Iterator[Iterable[Scores]]:
        """The scores that refits give, in closed form (`vqi.detectors.left_out`): no Gaussian is fitted for a fold."""
        lengths = [len(fold) for fold in folds]
        count, positions, channels = sum(lengths), self.grid[0] * self.grid[1], self.channels
        passes = -(-4 * count * positions * channels // LEFT_OUT_MEMORY)
        # Refits read the embeddings once for each fold, and factorise matrices [d, d] where this does [k, k].
        if passes > len(folds) or max(lengths) > channels or count - max(lengths) < 2:
            yield from super().left_out_scores(embeddings, folds)
            return
        strip, width = -(-positions // passes), max(count, channels)
        block = max(1, min(POSITIONS, strip, LEFT_OUT_BLOCK // (8 * width * channels)))
        announce(
            f"calibration: {count} normals at {strip} of {positions} positions",
            4 * count * strip * channels + 8 * 4 * block * width * channels,
        )
        order = [number for fold in folds for number in fold]
        parts: list[Array] = []
        progress = Progress("calibration, positions", positions)
        for first in range(0, positions, strip):
            values = self._by_position(embeddings(order), count, range(first, min(first + strip, positions)))
            for start in range(0, len(values), block):
                parts.append(left_out_distances(values[start : start + block], lengths, self.settings.regularisation).T)
                progress.advance(parts[-1].shape[1])
            del values
        distances = namespace(parts[0]).concatenate(parts, 1)
        for last, length in zip(accumulate(lengths), lengths, strict=True):
            of_fold = distances[last - length : last]
            yield map(self._scores_of, [of_fold[at : at + MAPS] for at in range(0, length, MAPS)])

    def _by_position(self, embeddings: Iterable[Array], images: int, positions: range) -> Array:
        """What `images` embeddings hold at those positions, float32 [P, N, d]."""
        channels = self.channels
        values: Array = ()
        filled = 0
        for embedding in embeddings:
            rows = embedding.reshape(len(embedding), -1, channels)[:, positions.start : positions.stop]
            if not filled:
                values = empty((len(positions), images, channels), rows)
            values[:, filled : filled + len(rows)] = namespace(rows).moveaxis(rows, 0, 1)
            filled += len(rows)
        return values


class GaussiansOnEngine(OnEngine, Gaussians):
    """Padim whose network an engine runs."""

    def __init__(
        self, settings: PadimSettings, input_size: tuple[int, int], seed: int, folder: Path, record: EngineRecord
    ) -> None:
        super().__init__(settings, input_size, seed, folder, record)
        self.grid = self.embedding_grid.shape
        self.upsample = Upsampling(self.embedding_grid, input_size, settings.smoothing)

    def embedding(self, images: np.ndarray) -> np.ndarray:
        values = super().embedding(images)
        self.channels = values.shape[3]  # no setting says how many a network of fewer channels gives
        return values
