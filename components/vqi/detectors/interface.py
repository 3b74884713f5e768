"""The Detector contract: what every method is, to training, evaluation, export and serving.

A detector takes images in [0, 1] and returns raw scores. Normalisation belongs to the backbone's weights and happens
inside; geometry, thresholds, metrics and pictures stay outside. It knows no dataset layout, no file store, no KFP, no
MLflow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vqi.detectors.settings.fields import LeaveOutKind

if TYPE_CHECKING:
    from vqi.detectors.engine import Engine


class Scores(NamedTuple):
    """Raw scores, higher = more anomalous, never clamped or normalised.

    `image`: float32 [N], the image score. `map`: float32 [N, H, W], the anomaly map at the input's size.
    """

    image: Tensor
    map: Tensor


class ImageBatches(Protocol):
    """Normal images, as often as they are asked for, in the same order: batches of float32 [n, 3, H, W] in [0, 1] on
    the CPU."""

    def __iter__(self) -> Iterator[Tensor]: ...

    def __len__(self) -> int:
        """The number of images (not of batches)."""
        ...


class Detector(nn.Module, ABC):
    """One method. Its state is in two parts: the network (parameters and buffers of `self.backbone` and what training
    made) and the index.

    The index (PCA, Gaussians, memory bank) is a mapping of plain tensors, kept apart from the network so that an
    exported graph can take it as an input: it lies beside the graph, never baked into it, and may grow without a new
    export. Methods without one leave it empty.
    """

    method: ClassVar[str]
    # The backbone's nodes the method reads where none are named, by network family: a part of the network's name.
    default_layers: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    # State that only learning needs, by the beginning of its names: in checkpoints, and not in the network artefact.
    training_only: ClassVar[tuple[str, ...]] = ()
    # Modules of its own, by name, whose weights stay contiguous where the rest is channels-last.
    contiguous: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: Any, backbone: nn.Module, input_size: tuple[int, int], seed: int = 0) -> None:
        super().__init__()
        self.settings, self.backbone, self.input_size, self.seed = settings, backbone, input_size, seed
        self.index: dict[str, Tensor] = {}
        # Runs what does not depend on the index, where the network's artefact has a graph for one.
        self.engine: Engine | None = None
        # What a person should know of how the index was built, a sentence each.
        self.build_notes: list[str] = []

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """What the index is built from and compared with: float32 [N, 3, H, W] -> float32 [N, ...]."""

    @abstractmethod
    def fit(self, embeddings: Iterable[Tensor], images: int) -> dict[str, Tensor]:
        """Build an index from the embeddings of `images` normals, in batches; does not change `self`. Deterministic for
        `self.seed`."""

    @abstractmethod
    def score(self, embedding: Tensor, index: Mapping[str, Tensor]) -> Scores:
        """Scores of embedded images against an index. Only torch operations: this is traced into the exported graph."""

    def begin_build(self, fits: int = 1) -> None:
        """`fits` indices are about to be fitted for one build: its own, and those of refits for the threshold.

        What limits the time of a build is shared among them; `build_notes` begin anew.
        """
        self.build_notes = []

    @property
    def leave_out_kind(self) -> LeaveOutKind:
        """How `leave_out` makes its indices."""
        return "refits"

    def leave_out(
        self, embeddings: Callable[[Sequence[int]], Iterable[Tensor]], folds: Sequence[Sequence[int]]
    ) -> Iterator[dict[str, Tensor]]:
        """For each of `folds`, which hold all normals' numbers, an index like `self.index` that none of the fold is in.

        `embeddings(numbers)` gives those normals' embeddings in batches. Here: a fit of all others.
        """
        for held_out in folds:
            left = sorted(number for fold in folds if fold is not held_out for number in fold)
            yield self.fit(embeddings(left), len(left))

    def left_out_scores(
        self, embeddings: Callable[[Sequence[int]], Iterable[Tensor]], folds: Sequence[Sequence[int]]
    ) -> Iterator[Iterable[Scores]]:
        """For each of `folds`, which hold all normals' numbers, the scores of its normals, in order and in batches, by
        an index that none of them is in.

        Here: by those of `leave_out`. A method that has what these would score in closed form makes none of them.
        """
        for held_out, index in zip(folds, self.leave_out(embeddings, folds), strict=True):
            yield self._scores_by(embeddings(held_out), index)

    def _scores_by(self, embeddings: Iterable[Tensor], index: Mapping[str, Tensor]) -> Iterator[Scores]:
        for embedding in embeddings:
            yield self.scores(embedding, index)

    def build_index(self, normals: ImageBatches) -> None:
        """Build and keep the index of all `normals`, streaming."""
        self.begin_build()
        self.index = self.fit(self.embedded(normals), len(normals))

    @torch.inference_mode()
    def embedded(self, normals: ImageBatches) -> Iterator[Tensor]:
        """The embeddings of `normals`, batch by batch."""
        for batch in normals:
            yield self.embedding(batch.to(self.device))

    def embedding(self, images: Tensor) -> Tensor:
        """`embed`, by the engine where there is one."""
        if self.engine and self.engine.embeds:
            return self.engine.embedding(images)
        return self.embed(images)

    def scores(self, embedding: Tensor, index: Mapping[str, Tensor]) -> Scores:
        """`score`, by the engine where there is one and the method has no index."""
        if self.engine and not self.engine.embeds:
            return self.engine.scores(embedding)
        return self.score(embedding, index)

    @property
    def device(self) -> torch.device:
        """Where the network lies; images and embeddings are expected there."""
        return next(iter([*self.backbone.parameters(), *self.backbone.buffers()])).device

    def forward(self, images: Tensor) -> Scores:
        """Raw scores of float32 [N, 3, H, W] in [0, 1]; any N, and the result does not depend on N."""
        return self.scores(self.embedding(images), self.index)
