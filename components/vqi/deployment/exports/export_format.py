"""What an export format is: one class that says what it is, writes the graph, and opens it again. Readable without
torch and without any runtime."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from vqi.platform.errors import BadInput

if TYPE_CHECKING:
    from vqi.deployment.sidecar import Sidecar
    from vqi.deployment.tracing import TracedDetector

# A graph that runs: raw scores float32 [N] and maps float32 [N, h, w] of float32 [N, 3, h, w] in [0, 1].
Infer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
# What a format notes about its files, for people (an opset, a version).
Note = str | int | float | bool


class ExportFormat(ABC):
    """One form of the graph in a bundle. A subclass states what it is in class attributes and has no state of its own.

    `name` is its name in `export.formats` and in `bundle.json`, `backend` what `vqi predict --backend` calls the
    runtime that opens it. `files` are the files it writes, relative to the bundle; one that ends in `/` is a folder
    with whatever lies below it. `install` is the package that a reader installs to run it. `opens_with` and
    `writes_with` are the modules that reading and writing import. `devices` are those it can run on; the runtime checks
    whether this machine has one. `precision` is that of its weights or of its arithmetic, whichever is less.
    `tolerance` is the largest deviation that the parity gate lets pass (None: `export.tolerance`). Of several formats
    that can run, `auto` takes the one with the highest `preference`, and none that is for who names it alone
    (`by_name_alone`): a bundle may come from anywhere, and some readers run more of a file than a graph. One that is
    `judged_by_accuracy` may decide otherwise than the detector, as long as the test split is judged no worse than
    `export.int8_max_drop` allows; where it is, the bundle goes without it.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    backend: ClassVar[str]
    files: ClassVar[tuple[str, ...]]
    install: ClassVar[str]
    opens_with: ClassVar[tuple[str, ...]]
    writes_with: ClassVar[tuple[str, ...]] = ()
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    precision: ClassVar[str] = "float32"
    tolerance: ClassVar[float | None] = None
    preference: ClassVar[int] = 0
    by_name_alone: ClassVar[bool] = False
    judged_by_accuracy: ClassVar[bool] = False

    @abstractmethod
    def write(self, source: TracedDetector, folder: Path) -> Mapping[str, Note]:
        """Write `files` into `folder`, a bundle that is being made; returns notes for its sidecar.

        Imports what it needs inside, as `open` does. Raises whatever it meets: the export step makes one sentence of
        it, and nothing is left behind.
        """

    @abstractmethod
    def open(
        self, folder: Path, input_size: tuple[int, int], index: Mapping[str, np.ndarray], device: str, threads: int
    ) -> Infer:
        """The graph of the bundle `folder`, loaded, for images of `input_size` (height, width).

        `index` holds the graph's further inputs by name, sorted by name. `threads` 0 = the runtime's choice. Does not
        import torch unless `opens_with` says so. Raises BadInput for a device that is not here.
        """

    def prove(
        self, folder: Path, input_size: tuple[int, int], index: Mapping[str, np.ndarray], images: np.ndarray
    ) -> Mapping[str, Note]:
        """Notes on what `open` computes by a shortcut, held against the exact graph on `images` float32 [n, 3, h, w];
        none where it takes none. A shortcut that does not find what the exact graph finds is left out from here on.
        """
        return {}

    def make_exact(self, folder: Path) -> bool:
        """Let `open` take no shortcut from here on; False where it takes none."""
        return False

    def precision_of(self, source: TracedDetector) -> str:
        """The precision that a graph of `source` computes in: `precision`, unless the format follows the engine's."""
        return self.precision

    def missing_to_write(self) -> list[str]:
        """The modules that writing needs and that are not installed here."""
        return missing_modules(self.writes_with)

    def missing_to_open(self) -> list[str]:
        """The modules that reading needs and that are not installed here."""
        return missing_modules(self.opens_with)

    def owns(self, file: str) -> bool:
        """Whether `file`, relative to the bundle, is one of its files."""
        return any(covers(stated, file) for stated in self.files)


@dataclass(frozen=True)
class WrappedResult:
    """What a tool of others answers for one photograph through a wrapped bundle; boxes are (x1, y1, x2, y2, score)."""

    score: float | None
    decision: str
    boxes: tuple[tuple[int, int, int, int, float], ...]


# Photographs as the bytes of files in, one result each out.
Answer = Callable[[Sequence[bytes]], list[WrappedResult]]


class BundleWrapper(ExportFormat):
    """A format without a graph of its own: files beside the graphs by which a tool of others runs the bundle as a
    whole, from the bytes of a photograph to the decision. It is written when the bundle is complete, and must answer
    what the bundle answers."""

    by_name_alone: ClassVar[bool] = True

    def write(self, source: TracedDetector, folder: Path) -> Mapping[str, Note]:
        return {}

    def open(
        self, folder: Path, input_size: tuple[int, int], index: Mapping[str, np.ndarray], device: str, threads: int
    ) -> Infer:
        raise BadInput("it runs the graph of another format; name the backend of that one")

    @abstractmethod
    def wrap(self, folder: Path, sidecar: Sidecar) -> Mapping[str, Note]:
        """Write `files` into `folder`, a bundle that is complete without them; returns notes for its sidecar."""

    @abstractmethod
    def load(self, folder: Path) -> Answer:
        """The wrapped bundle as the tool of others opens it."""


def covers(stated: str, file: str) -> bool:
    """Whether `file` is what a format's `files` names with `stated`: that file, or one below that folder."""
    return file == stated or (stated.endswith("/") and file.startswith(stated))


def missing_modules(names: Iterable[str]) -> list[str]:
    """Those of the modules that are not installed here; none of them is imported, but for the packages they are in."""
    missing = []
    for name in names:
        try:
            if importlib.util.find_spec(name) is None:
                missing.append(name)
        except ModuleNotFoundError:  # of the package that the module is in
            missing.append(name)
    return missing
