"""PaDiM: Defard et al., "a Patch Distribution Modeling Framework for Anomaly Detection and Localization", arXiv
2011.08785."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vqi.detectors.backbones import Backbone
from vqi.detectors.features import CommonGrid
from vqi.detectors.interface import Detector, Scores
from vqi.detectors.left_out import cholesky, left_out_distances
from vqi.detectors.maps import MapUpsampling
from vqi.detectors.settings.padim import PadimSettings
from vqi.platform.errors import BadInput
from vqi.platform.memory import announce
from vqi.platform.progress import Progress

# Positions factorised at once: bounds what the Cholesky needs beside the covariances themselves.
POSITIONS = 256
# Bytes of embeddings held at once while normals are left out in closed form; where all take more, they are read several
# times, some positions each. float64 takes a few times LEFT_OUT_BLOCK beside them.
LEFT_OUT_MEMORY, LEFT_OUT_BLOCK = 2**30, 2**25
# Maps that are upsampled at once.
MAPS = 8


def orthogonal(channels: int, count: int, generator: torch.Generator) -> Tensor:
    """A random semi-orthogonal matrix, float32 [channels, count] (Kim et al., arXiv 2105.14737, section 3.2).

    Measured on cookie, ResNet-18, 100 of 448, three seeds: pixel AUROC .920 to .924 and AUPRO .755 to .764, where five
    draws of picked channels gave .901 to .924 and .690 to .764 at the same cost.
    """
    return torch.linalg.qr(torch.randn(channels, count, generator=generator)).Q.contiguous()


def picked(channels: int, count: int, generator: torch.Generator) -> Tensor:
    """The paper's reduction as a matrix, float32 [channels, count]: every column picks one channel."""
    return torch.eye(channels)[:, torch.randperm(channels, generator=generator)[:count].sort().values]


REDUCTIONS = {"orthogonal": orthogonal, "pick": picked}


class Padim(Detector):
    """A Gaussian of normal features at every position; a position is as anomalous as its Mahalanobis distance."""

    method: ClassVar[str] = "padim"
    default_layers: ClassVar[Mapping[str, tuple[str, ...]]] = {"resnet": ("layer1", "layer2", "layer3")}

    settings: PadimSettings
    backbone: Backbone
    reduction: Tensor

    def __init__(self, settings: PadimSettings, backbone: Backbone, input_size: tuple[int, int], seed: int = 0) -> None:
        super().__init__(settings, backbone, input_size, seed)
        self.common = CommonGrid(backbone.grids(input_size), kind=settings.resize)
        self.grid = self.common.shape
        self.upsample = MapUpsampling(self.common.grid, input_size, settings.smoothing)
        total = sum(backbone.channels.values())
        count = min(settings.channels or total, total)
        # Part of the network's state: a saved detector does not depend on torch drawing the same numbers for ever.
        self.register_buffer(
            "reduction", REDUCTIONS[settings.reduction](total, count, torch.Generator().manual_seed(seed))
        )

    def embed(self, images: Tensor) -> Tensor:
        """Section III-A: the layers on the finest one's grid, concatenated, reduced to d channels.

        float32 [N, 3, H, W] -> float32 [N, h, w, d]. Reduction and resizing are linear and do not mind their order, so
        every layer is reduced on its own, smaller grid by its own rows of the matrix, and the parts are added up.
        Bilinear was measured above nearest for each of five seeds on cookie (means of image AUROC, pixel AUROC, AUPRO:
        .993 / .926 / .769 against .981 / .922 / .759).
        """
        features = self.backbone(images).values()
        parts = self.reduction.split([feature.shape[1] for feature in features])
        reduced = [F.conv2d(feature, part.T[:, :, None, None]) for feature, part in zip(features, parts, strict=True)]
        return functools.reduce(torch.add, self.common.channels_last(reduced))

    def fit(self, embeddings: Iterable[Tensor], images: int) -> dict[str, Tensor]:
        """Section III-B: `mean` [P, d] and `whitening` [P, d, d] = L⁻¹, where L Lᵀ is the regularised covariance (eq.
        1), for P = h w positions.

        One pass: mean and scatter are merged batch by batch (Chan, Golub & LeVeque 1979), and the scatter becomes the
        factor in place. Raises BadInput where there are fewer than two normals.
        """
        if images < 2:
            raise BadInput(f"padim needs at least 2 normals to estimate a covariance; there are {images}.")
        positions, channels = self.grid[0] * self.grid[1], self.reduction.shape[1]
        announce(f"Gaussians of {channels} channels at {positions} positions", 4 * positions * channels**2)
        mean = torch.zeros(positions, channels, device=self.reduction.device)
        scatter = torch.zeros(positions, channels, channels, device=self.reduction.device)
        seen = 0
        for embedding in embeddings:
            values = embedding.reshape(len(embedding), positions, channels)
            batch_mean = values.mean(dim=0)
            shift = batch_mean - mean
            weight = seen * len(values) / (seen + len(values))
            # The shift between the two means is one more observation, so that one product a position updates the
            # scatter.
            rows = torch.cat([values - batch_mean, weight**0.5 * shift[None]]).transpose(0, 1)
            scatter.baddbmm_(rows.mT, rows)
            seen += len(values)
            mean += shift * (len(values) / seen)
        return {"mean": mean, "whitening": self._factorise(scatter, seen)}

    def _factorise(self, scatter: Tensor, seen: int) -> Tensor:
        """Scatter matrices [P, d, d] of `seen` images -> L⁻¹ of their covariances, in place."""
        identity = torch.eye(scatter.shape[1], device=scatter.device)
        for start in range(0, len(scatter), POSITIONS):
            covariance = scatter[start : start + POSITIONS] / (seen - 1) + self.settings.regularisation * identity
            factor = cholesky(covariance)
            scatter[start : start + POSITIONS] = torch.linalg.solve_triangular(
                factor, identity.expand_as(factor), upper=False
            )
        return scatter

    def score(self, embedding: Tensor, index: Mapping[str, Tensor]) -> Scores:
        """Eq. 2, the Mahalanobis distance, as |L⁻¹ (x - mean)|: float32 [N, h, w, d] -> maps, and their maxima as image
        scores."""
        centred = embedding.reshape(-1, self.grid[0] * self.grid[1], embedding.shape[-1]) - index["mean"]
        # Images last: the factors, 160 MB of them, are read as they lie. Turned they would be copied at every call.
        whitened = torch.bmm(index["whitening"], centred.permute(1, 2, 0))
        return self._scores_of(torch.linalg.vector_norm(whitened, dim=1).T)

    def _scores_of(self, distance: Tensor) -> Scores:
        """Maps of Mahalanobis distances [N, P], and their maxima as image scores."""
        anomaly_map = self.upsample(distance.reshape(-1, *self.grid))
        return Scores(anomaly_map.amax(dim=(1, 2)), anomaly_map)

    def left_out_scores(
        self, embeddings: Callable[[Sequence[int]], Iterable[Tensor]], folds: Sequence[Sequence[int]]
    ) -> Iterator[Iterable[Scores]]:
        """The scores that refits give, in closed form (`vqi.detectors.left_out`): no Gaussian is fitted for a fold."""
        lengths = [len(fold) for fold in folds]
        count, positions, channels = sum(lengths), self.grid[0] * self.grid[1], self.reduction.shape[1]
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
        distances = torch.empty(count, positions, device=self.reduction.device)
        progress = Progress("calibration, positions", positions)
        for first in range(0, positions, strip):
            values = self._by_position(embeddings(order), count, range(first, min(first + strip, positions)))
            for start in range(0, len(values), block):
                part = left_out_distances(values[start : start + block], lengths, self.settings.regularisation)
                distances[:, first + start : first + start + len(part)] = part.T
                progress.advance(len(part))
            del values
        for of_fold in distances.split(lengths):
            yield map(self._scores_of, of_fold.split(MAPS))

    def _by_position(self, embeddings: Iterable[Tensor], images: int, positions: range) -> Tensor:
        """What `images` embeddings hold at those positions, float32 [P, N, d]."""
        channels = self.reduction.shape[1]
        values = torch.empty(len(positions), images, channels, device=self.reduction.device)
        filled = 0
        for embedding in embeddings:
            rows = embedding.reshape(len(embedding), -1, channels)[:, positions.start : positions.stop]
            values[:, filled : filled + len(rows)] = rows.transpose(0, 1)
            filled += len(rows)
        return values
