"""PatchCore's memory bank: Roth et al., "Towards Total Recall in Industrial Anomaly Detection", arXiv 2106.08265.
Equation numbers are the paper's. Needs no torch where its embeddings are NumPy's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from vqi.detectors.arrays import (
    Array,
    alike,
    empty,
    joined,
    largest_of_rows,
    log_sum_exp,
    namespace,
    rows_at,
    values_at,
)
from vqi.detectors.coreset import TimeBudget, greedy_k_center, random_projection
from vqi.detectors.coresets_of_others import greedy_without_each
from vqi.detectors.engine_record import EngineRecord
from vqi.detectors.indexed import Scores, WholeEmbeddings
from vqi.detectors.nearest import nearest
from vqi.detectors.on_engine import OnEngine
from vqi.detectors.parts import Coreset, FitsInParts
from vqi.detectors.settings.fields import LeaveOutKind
from vqi.detectors.settings.patchcore import PatchcoreSettings
from vqi.detectors.upsampling import Upsampling
from vqi.platform.errors import BadInput
from vqi.platform.logs import logger
from vqi.platform.memory import announce

log = logger(__name__)

# Patches held at once while the bank is chosen, bytes. What fits is reduced in one go, as in the paper; more is reduced
# chunk by chunk.
PATCH_MEMORY = 2 * 2**30
# A chunk keeps this many times its share of the bank, and the bank is chosen from what the chunks kept.
OVERSAMPLING = 4
# The pools that the banks for the threshold are chosen from hold this many times the bank (each of ten folds has as
# many items as the bank), but no more than a share POOLED of all patches, and at least LEAST_POOL times the bank:
# larger pools of a large bank cost what refits do. Folds of like parts keep like patches, so few of a small pool are of
# use: 40 rendered parts at 1 % scored .06 above new parts by pools of 4, and as those did by pools of 10.
POOL, POOLED, LEAST_POOL = 10, 0.2, 2
# Patches at least this many times as long as the projection are projected before the coreset is chosen: WideResNet-50's
# 1,536 channels are, the 384 of ResNet-18 are not. Measured on cookie at 1 %: unprojected, pixel AUROC .966 and AUPRO
# .894; on 128 dimensions four seeds lie anywhere between .950 / .844 and .966 / .892, for half the time.
WORTH_PROJECTING = 4


class _FitTime:
    """The time of one fit's selections, of its part of the build's: `spent` seconds, `short` of them cut."""

    def __init__(self, build: TimeBudget) -> None:
        self.seconds, self.spent, self.short, self.selections = build.next_part(), 0.0, 0, 1
        self.begin(1)

    def begin(self, selections: int) -> None:
        """So many selections are to come."""
        self.selections, self.budget = selections, TimeBudget(self.seconds, selections)

    def next_selection(self) -> float:
        """The seconds of the selection that begins now, 0 = no limit."""
        self.begun = time.monotonic()
        return self.budget.next_part()

    def end_selection(self, cut: bool) -> None:
        """A selection has ended, `cut` by its time or not."""
        seconds = time.monotonic() - self.begun
        self.budget.spend(seconds)
        self.spent += seconds
        self.short += cut


class MemoryBank(FitsInParts):
    """Patches of normal images; a patch is as anomalous as it is far from its nearest item."""

    method: ClassVar[str] = "patchcore"

    settings: PatchcoreSettings
    # Height and width of an embedding, and what brings a map of it to the input's size.
    grid: tuple[int, int]
    upsample: Callable[[Array], Array]
    build_time = TimeBudget(0.0, 0)

    def begin_build(self, fits: int = 1) -> None:
        """`max_seconds` begin, shared among `fits` coresets; all those of pools together are one."""
        super().begin_build(fits)
        self.build_time = TimeBudget(
            self.settings.max_seconds, fits if self.leave_out_kind == "refits" else min(fits, 2)
        )

    def fit(self, embeddings: Iterable[Array], images: int) -> dict[str, Array]:
        """The coreset of all patches (eq. 5, algorithm 1): `memory_bank`, float32 [M, C], in the order it was chosen.

        Raises BadInput where there are fewer patches than neighbours.
        """
        patches, target = self._sizes(images)
        if self.build_time.parts < 1:  # a fit on its own
            self.begin_build()
        timing = _FitTime(self.build_time)
        bank = self._select(embeddings, patches, target, timing)
        self.build_time.spend(timing.spent)
        if timing.short:
            note = (
                f"coreset: method.settings.max_seconds is {self.settings.max_seconds:g} for the whole build, and "
                f"the share of this bank ({timing.seconds:.2g} s) was over at {len(bank)} of {target} patches"
            )
            if timing.selections > 1:
                note += f"; {timing.short} of {timing.selections} selections were cut short"
            log.info(note)
            self.build_notes.append(note)
        return {"memory_bank": bank}

    @property
    def leave_out_kind(self) -> LeaveOutKind:
        """As the setting `calibration` says."""
        return self.settings.calibration

    def leave_out(
        self, embeddings: Callable[[Sequence[int]], Iterable[Array]], folds: Sequence[Sequence[int]]
    ) -> Iterator[dict[str, Array]]:
        """A bank a fold, of as many patches as the bank itself, chosen from the pools of all other folds.

        A fold's pool is a coreset of its own patches alone, so a normal that is left out has had no say in any item;
        items of the bank itself that it displaced would be missing from what it is compared with, and its score would
        be too high. A coreset of coresets covers what a coreset of everything does, within the radius of the pools.
        """
        if self.leave_out_kind == "refits":
            yield from super().leave_out(embeddings, folds)
            return
        patches = sum(map(len, folds)) * self.grid[0] * self.grid[1]
        size = len(self.index["memory_bank"]) if "memory_bank" in self.index else self._target(patches)
        pool = max(LEAST_POOL * size, min(POOL * size, round(POOLED * patches)))
        budget, short = TimeBudget(self.build_time.next_part(), 2 * len(folds)), 0
        pools = []
        for number, fold in enumerate(folds, 1):
            own = len(fold) * self.grid[0] * self.grid[1]
            log.info(f"calibration: pool {number} of {len(folds)}")
            timing = _FitTime(budget)
            pools.append(self._select(embeddings(fold), own, min(own, math.ceil(pool * own / patches)), timing))
            budget.spend(timing.spent)
            short += timing.short
        if not self.settings.max_seconds:  # the time of selections that share what they compute belongs to none of them
            patches_of_pools = joined(pools)
            for chosen in greedy_without_each([self._points(kept) for kept in pools], size):
                yield {"memory_bank": patches_of_pools[chosen]}
            return
        for number in range(len(folds)):
            timing = _FitTime(budget)
            timing.begin(1)
            others = joined([kept for other, kept in enumerate(pools) if other != number])
            yield {"memory_bank": self._coreset(others, size, timing)}
            budget.spend(timing.spent)
            short += timing.short
        if short:
            note = (
                f"calibration: {short} coresets for the threshold were cut short by method.settings.max_seconds; the "
                "threshold may be too high"
            )
            log.info(note)
            self.build_notes.append(note)

    def _target(self, patches: int) -> int:
        """How many of `patches` the bank keeps. Raises BadInput where there are fewer than neighbours."""
        target = min(round(patches * self.settings.coreset_ratio), self.settings.max_bank)
        # Reweighting and map need that many items, whatever the ratio.
        target = max(target, self._least)
        if patches < target:
            raise BadInput(
                f"The normals give {patches} patches, fewer than the {target} neighbours of method.settings; lower "
                "them or add normals."
            )
        return target

    def _select(self, embeddings: Iterable[Array], patches: int, target: int, timing: _FitTime) -> Array:
        """A coreset of all patches [target, C]."""
        chunks = self._chunks(embeddings, patches, target, timing)
        kept = next(chunks)
        for chunk in chunks:  # more patches than may be held: the bank is chosen from what every chunk kept
            kept = joined([kept, chunk])
        return self._coreset(kept, target, timing)

    def _chunks(self, embeddings: Iterable[Array], patches: int, target: int, timing: _FitTime) -> Iterator[Array]:
        """All patches [n, C] where they fit into PATCH_MEMORY; otherwise a coreset of each part that does."""
        if isinstance(embeddings, WholeEmbeddings) and embeddings.values.nbytes <= PATCH_MEMORY:
            timing.begin(1)
            yield embeddings.values.reshape(-1, embeddings.values.shape[-1])
            return
        held: Array = ()
        filled = 0
        for embedding in embeddings:
            rows = embedding.reshape(-1, embedding.shape[-1])
            if not filled:
                capacity = min(patches, PATCH_MEMORY // (4 * rows.shape[1]))
                projected = self.settings.projection if self._projects(rows.shape[1]) else rows.shape[1]
                announce(
                    f"memory bank: {patches} patches, {capacity} at a time, to {target}",
                    capacity * 4 * (rows.shape[1] + 2 * projected),
                )
                held = empty((capacity, rows.shape[1]), rows)
                timing.begin(1 if capacity == patches else -(-patches // capacity) + 1)
            while len(rows):
                if filled == len(held):
                    yield self._share(held, patches, target, timing)
                    filled = 0
                taken = rows[: len(held) - filled]
                held[filled : filled + len(taken)] = taken
                filled += len(taken)
                rows = rows[len(taken) :]
        yield held[:filled] if filled == patches else self._share(held[:filled], patches, target, timing)

    def _share(self, chunk: Array, patches: int, target: int, timing: _FitTime) -> Array:
        """A coreset of one chunk, OVERSAMPLING times its share of the bank and at most half of the chunk."""
        count = max(1, min(round(OVERSAMPLING * target * len(chunk) / patches), len(chunk) // 2))
        return self._coreset(chunk, count, timing)

    def _coreset(self, patches: Array, count: int, timing: _FitTime) -> Array:
        seconds = timing.next_selection()
        if count >= len(patches):
            return patches + 0.0
        chosen = greedy_k_center(self._points(patches), count, seconds, at_least=self._least)
        timing.end_selection(cut=len(chosen) < count)
        return patches[chosen]

    def fit_part(self, embeddings: Iterable[Array], images: int, all_images: int, folds: int = 1) -> list[Coreset]:
        """Coresets of the patches of `images` of `all_images` normals, one for each PATCH_MEMORY of them.

        Without refits each holds as many items as the bank will, which gives the bound of `vqi.detectors.parts`. With
        refits, which small sets have, it holds OVERSAMPLING times its share: there are `folds` coresets a part.
        """
        patches, target = self._sizes(all_images)
        coresets: list[Coreset] = []
        for rows in self._held(embeddings):
            share = target if folds == 1 else -(-OVERSAMPLING * target * len(rows) // patches)
            coresets.append(self._covered(rows, min(max(share, self._least), len(rows))))
        return coresets

    def fit_union(self, coresets: Sequence[Coreset], images: int) -> dict[str, Array]:
        """`memory_bank` of `images` normals, chosen from the coresets of all their parts; its notes say how far the
        patches may lie from it."""
        target = self._sizes(images)[1]
        union = joined([coreset.items for coreset in coresets])
        bank = self._covered(union, min(target, len(union)))
        distance = max(coreset.radius for coreset in coresets) + bank.radius
        cut = f", cut by max_seconds at {len(bank.items)} of {target} items" if len(bank.items) < target else ""
        self.build_notes.append(
            f"memory bank: merged from {len(coresets)} coresets{cut}; no patch of the normals is farther than "
            f"{distance:.4g} from it"
        )
        return {"memory_bank": bank.items}

    def _sizes(self, images: int) -> tuple[int, int]:
        """The patches of so many images, and the items of their bank. Raises BadInput where there are fewer patches
        than neighbours."""
        patches = images * self.grid[0] * self.grid[1]
        return patches, self._target(patches)

    def _held(self, embeddings: Iterable[Array]) -> Iterator[Array]:
        """All patches [n, C], PATCH_MEMORY at a time."""
        rows: list[Array] = []
        held = 0
        for embedding in embeddings:
            rows.append(embedding.reshape(-1, embedding.shape[-1]))
            held += len(rows[-1])
            if held * 4 * embedding.shape[-1] > PATCH_MEMORY:
                yield joined(rows)
                rows, held = [], 0
        if rows:
            yield joined(rows)

    def _covered(self, patches: Array, count: int) -> Coreset:
        """The greedy coreset of so many patches, and how far a patch can be from it where they were chosen, on the
        projection if there is one."""
        seconds, began = self.build_time.next_part(), time.monotonic()
        points = self._points(patches)
        chosen = greedy_k_center(points, count, seconds, at_least=self._least)
        self.build_time.spend(time.monotonic() - began)
        if len(chosen) == len(patches):
            return Coreset(patches[chosen], 0.0)
        return Coreset(patches[chosen], float(nearest(points, points[chosen])[0].max()))

    @property
    def _least(self) -> int:
        """The fewest items a bank can have."""
        return max(self.settings.neighbours, self.settings.map_neighbours)

    def _points(self, patches: Array) -> Array:
        """What the coreset is chosen on: the patches, or their projection where they are long."""
        if not self._projects(patches.shape[1]):
            return patches
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        projection = random_projection(patches.shape[1], self.settings.projection, generator)
        return patches @ alike(projection.numpy(), patches)

    def _projects(self, channels: int) -> bool:
        return 0 < self.settings.projection * WORTH_PROJECTING <= channels

    def score(self, embedding: Array, index: Mapping[str, Array]) -> Scores:
        """float32 [N, h, w, C] against `memory_bank` [M, C]: the reweighted worst of the nearest distances (eq. 6 and
        7), and their map.

        A value of the map is the mean distance to the `map_neighbours` nearest items. The paper's is the nearest alone.
        Measured at 1 %, three against one, pixel AUROC and AUPRO: cookie .966 / .894 -> .969 / .900, magnetic_tile .737
        / .710 -> .749 / .723; nine lose most of it again.
        """
        xp, bank = namespace(embedding), index["memory_bank"]
        patches = embedding.reshape(-1, self.grid[0] * self.grid[1], embedding.shape[-1])
        distances, items = nearest(patches.reshape(-1, embedding.shape[-1]), bank, self.settings.map_neighbours)
        distance, item = distances[:, 0].reshape(-1, patches.shape[1]), items[:, 0].reshape(-1, patches.shape[1])
        # Eq. 6: m_test, the patch farthest from the bank, its nearest item m*, and their distance s*.
        farthest, worst = largest_of_rows(distance)
        patch = rows_at(patches, worst)
        image_score = farthest
        if self.settings.neighbours > 1:
            # Eq. 7: s = (1 - exp s* / sum of exp |m_test - m|) s*, the sum over the b items m nearest to m*, itself
            # among them. In logarithms: exp overflows.
            nearest_item = bank[values_at(item, worst)]
            neighbours = bank[nearest(nearest_item, bank, self.settings.neighbours)[1]]
            spread = log_sum_exp(xp.linalg.vector_norm(patch - neighbours, axis=2))
            image_score = -xp.expm1(farthest - spread) * farthest
        return Scores(image_score, self.upsample(distances.mean(axis=1).reshape(-1, *self.grid)))


class BankOnEngine(OnEngine, MemoryBank):
    """Patchcore whose network an engine runs."""

    def __init__(
        self, settings: PatchcoreSettings, input_size: tuple[int, int], seed: int, folder: Path, record: EngineRecord
    ) -> None:
        super().__init__(settings, input_size, seed, folder, record)
        self.grid = self.embedding_grid.shape
        self.upsample = Upsampling(self.embedding_grid, input_size, settings.smoothing)
