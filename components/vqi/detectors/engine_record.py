"""What a network artefact says of its engine; readable without torch."""

from __future__ import annotations

from vqi.platform.devices import EngineName, Precision
from vqi.platform.records import Record

GRAPH = "graph.xml"
GRAPH_FILES = (GRAPH, "graph.bin")


class EngineRecord(Record):
    """Which engine a network runs by and why; `files` are the hashes of its graph's files, none where torch runs it."""

    name: EngineName
    precision: Precision
    reason: str
    files: dict[str, str]

    @property
    def sentence(self) -> str:
        return f"{self.name} in {self.precision}: {self.reason}"
