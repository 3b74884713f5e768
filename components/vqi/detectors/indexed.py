"""The side of a method that needs no network: an index is fitted to embeddings, and embeddings are scored against it.

A Detector has it beside its network. Where an engine runs the network, the methods that name a class `on_engine` do
without torch: their arrays are NumPy's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from vqi.detectors.arrays import Array
from vqi.detectors.grids import Grid
from vqi.detectors.settings.fields import LeaveOutKind

if TYPE_CHECKING:
    from vqi.detectors.engine import Engine


class Scores(NamedTuple):
    """Raw scores, higher = more anomalous, never clamped or normalised.

    `image`: float32 [N], the image score. `map`: float32 [N, H, W], the anomaly map at the input's size.
    """

    image: Array
    map: Array


class ImageBatches(Protocol):
    """Normal images, as often as they are asked for, in the same order: batches of float32 [n, 3, H, W] in [0, 1] on
    the CPU."""

    def __iter__(self) -> Iterator[Array]: ...

    def __len__(self) -> int:
        """The number of images (not of batches)."""
        ...


class WholeEmbeddings:
    """All of `values` [N, ...], which lie in memory as one array, in batches: they need not be copied to be together.
    Not to be changed."""

    def __init__(self, values: Array, batch_size: int) -> None:
        self.values, self.batch_size = values, batch_size

    def __iter__(self) -> Iterator[Array]:
        return (self.values[at : at + self.batch_size] for at in range(0, len(self.values), self.batch_size))


class Indexed(ABC):
    """What build_index and evaluate ask of a method.

    The index (PCA, Gaussians, memory bank) is a mapping of plain arrays, kept apart from the network so that an
    exported graph can take it as an input: it lies beside the graph, never baked into it, and may grow without a new
    export. Methods without one leave it empty.
    """

    method: ClassVar[str]
    # Where the positions of an embedding [N, h, w, C] lie in an image; None where a method's are others.
    embedding_grid: Grid | None = None

    def __init__(self, settings: Any, input_size: tuple[int, int], seed: int = 0) -> None:
        self.settings, self.input_size, self.seed = settings, input_size, seed
        self.index: dict[str, Array] = {}
        # Runs what does not depend on the index, where the network's artefact has a graph for one.
        self.engine: Engine | None = None
        # What a person should know of how the index was built, a sentence each.
        self.build_notes: list[str] = []

    @abstractmethod
    def embedding(self, images: Array) -> Array:
        """What the index is built from and compared with: float32 [N, 3, H, W] -> float32 [N, ...]."""

    @abstractmethod
    def fit(self, embeddings: Iterable[Array], images: int) -> dict[str, Array]:
        """Build an index from the embeddings of `images` normals, in batches; does not change `self`. Deterministic for
        `self.seed`."""

    @abstractmethod
    def score(self, embedding: Array, index: Mapping[str, Array]) -> Scores:
        """Scores of embedded images against an index. Of tensors only torch operations: this is traced into the
        exported graph."""

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
        self, embeddings: Callable[[Sequence[int]], Iterable[Array]], folds: Sequence[Sequence[int]]
    ) -> Iterator[dict[str, Array]]:
        """For each of `folds`, which hold all normals' numbers, an index like `self.index` that none of the fold is in.

        `embeddings(numbers)` gives those normals' embeddings in batches. Here: a fit of all others.
        """
        for held_out in folds:
            left = sorted(number for fold in folds if fold is not held_out for number in fold)
            yield self.fit(embeddings(left), len(left))

    def left_out_scores(
        self, embeddings: Callable[[Sequence[int]], Iterable[Array]], folds: Sequence[Sequence[int]]
    ) -> Iterator[Iterable[Scores]]:
        """For each of `folds`, which hold all normals' numbers, the scores of its normals, in order and in batches, by
        an index that none of them is in.

        Here: by those of `leave_out`. A method that has what these would score in closed form makes none of them.
        """
        for held_out, index in zip(folds, self.leave_out(embeddings, folds), strict=True):
            yield self.scores_by(embeddings(held_out), index)

    def scores_by(self, embeddings: Iterable[Array], index: Mapping[str, Array]) -> Iterator[Scores]:
        """The scores of embeddings by an index, batch by batch."""
        for embedding in embeddings:
            yield self.scores(embedding, index)

    def build_index(self, normals: ImageBatches) -> None:
        """Build and keep the index of all `normals`, streaming."""
        self.begin_build()
        self.index = self.fit(self.embedded(normals), len(normals))

    def embedded(self, normals: ImageBatches) -> Iterator[Array]:
        """The embeddings of `normals`, batch by batch."""
        for batch in normals:
            yield self.embedding(batch)

    def scores(self, embedding: Array, index: Mapping[str, Array]) -> Scores:
        """`score`, by the engine where there is one and the method has no index."""
        return self.score(embedding, index)

    def score_images(self, images: Array) -> Scores:
        """Raw scores of float32 [N, 3, H, W] in [0, 1]; any N, and the result does not depend on N."""
        return self.scores(self.embedding(images), self.index)

    def own(self, values: Array) -> Array:
        """`values` of a file where the embeddings are."""
        return values
