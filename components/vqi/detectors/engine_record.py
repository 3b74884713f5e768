"""What a network artefact says of its engine; readable without torch."""

from __future__ import annotations

from typing import ClassVar

from vqi.detectors.grids import Cells, Grid
from vqi.platform.devices import EngineName, Precision
from vqi.platform.records import Pair, PartialRecord, Record

GRAPH = "graph.xml"
GRAPH_FILES = (GRAPH, "graph.bin")


class CellsRecord(Record):
    """The cells of an axis (`grids.Cells`)."""

    count: int
    pitch: float
    start: float

    @staticmethod
    def of(cells: Cells) -> CellsRecord:
        return CellsRecord(count=cells.count, pitch=float(cells.pitch), start=float(cells.start))


class EngineRecord(PartialRecord):
    """Which engine a network runs by and why; `files` are the hashes of its graph's files, none where torch runs it.
    `grid`: where the rows and columns of its embeddings lie (None: of a method that needs torch, or as earlier versions
    wrote it)."""

    left_out: ClassVar[frozenset[str]] = frozenset({"grid"})

    name: EngineName
    precision: Precision
    reason: str
    files: dict[str, str]
    grid: Pair[CellsRecord] | None = None

    @property
    def embedding_grid(self) -> Grid | None:
        return self.grid and Grid(*(Cells(cells.count, cells.pitch, cells.start) for cells in self.grid))

    @property
    def sentence(self) -> str:
        return f"{self.name} in {self.precision}: {self.reason}"
