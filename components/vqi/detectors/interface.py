"""The Detector contract: what every method is, to training, evaluation, export and serving.

A detector takes images in [0, 1] and returns raw scores. Normalisation belongs to the backbone's weights and happens
inside; geometry, thresholds, metrics and pictures stay outside. It knows no dataset layout, no file store, no KFP, no
MLflow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vqi.detectors.arrays import Array
from vqi.detectors.indexed import ImageBatches, Indexed, Scores

__all__ = ["Detector", "ImageBatches", "Scores"]


class Detector(Indexed, nn.Module, ABC):
    """One method. Its state is in two parts: the network (parameters and buffers of `self.backbone` and what training
    made) and the index.
    """

    # The backbone's nodes the method reads where none are named, by network family: a part of the network's name.
    default_layers: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    # State that only learning needs, by the beginning of its names: in checkpoints, and not in the network artefact.
    training_only: ClassVar[tuple[str, ...]] = ()
    # Modules of its own, by name, whose weights stay contiguous where the rest is channels-last.
    contiguous: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: Any, backbone: nn.Module, input_size: tuple[int, int], seed: int = 0) -> None:
        nn.Module.__init__(self)
        Indexed.__init__(self, settings, input_size, seed)
        self.backbone = backbone

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """What the index is built from and compared with: float32 [N, 3, H, W] -> float32 [N, ...]."""

    @torch.inference_mode()
    def embedded(self, normals: ImageBatches) -> Iterator[Tensor]:
        for batch in normals:
            yield self.embedding(self.own(batch))

    def embedding(self, images: Tensor) -> Tensor:
        """`embed`, by the engine where there is one."""
        if self.engine and self.engine.embeds:
            return self.engine.embedding(images)
        return self.embed(images)

    def scores(self, embedding: Tensor, index: Mapping[str, Tensor]) -> Scores:
        if self.engine and not self.engine.embeds:
            return self.engine.scores(embedding)
        return self.score(embedding, index)

    @torch.inference_mode()
    def scores_by(self, embeddings: Any, index: Mapping[str, Tensor]) -> Iterator[Scores]:
        yield from super().scores_by(embeddings, index)

    @torch.inference_mode()
    def score_images(self, images: Array) -> Scores:
        return super().score_images(self.own(images))

    def own(self, values: Array) -> Tensor:
        return torch.as_tensor(values).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the network lies; images and embeddings are expected there."""
        return next(iter([*self.backbone.parameters(), *self.backbone.buffers()])).device

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of float32 [N, 3, H, W] in [0, 1]; any N, and the result does not depend on N."""
        return self.scores(self.embedding(images), self.index)
