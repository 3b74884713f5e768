"""What every layout reader implements: one class that recognises a source and says what its photographs are.

A reader sees the files of the source through `SourceFiles` and returns plain values; it writes nothing, and draws
nothing itself. docs/extending.md is the guide.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from vqi.dataset.drawings import Box, Drawing, Polygon, RunLengths
from vqi.dataset.layouts.source_files import SourceFiles
from vqi.dataset.manifest import Label
from vqi.dataset.saturation import Saturation

__all__ = [
    "Box",
    "Drawing",
    "Label",
    "LayoutReader",
    "LayoutSplit",
    "Match",
    "Options",
    "Photograph",
    "Polygon",
    "Reading",
    "RunLengths",
    "Saturation",
    "SourceFiles",
]

# The splits that a layout can state; the others are ingest's to choose.
LayoutSplit = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Match:
    """Whether a reader recognises a source: `sureness` from 0 (it does not) to 1 (nothing else can be meant), and why.

    The surest reader reads the source. 1 is for a file that only this layout has, 0.5 for names of folders that fit.
    `why` is a clause ("it has 12 files of LabelMe"); with a sureness of 0 it is the sentence for whoever named the
    layout all the same. `only_by_name`: the files can be of this layout, but of others as well, so that it reads them
    only where `data.layout` names it.
    """

    sureness: float
    why: str
    only_by_name: bool = False


@dataclass(frozen=True)
class Options:
    """What a category says about how its source is read: `mask_suffix` is `data.mask_suffix`, `good` and `defect` are
    the regular expressions of `data.good` and `data.defect`, `good_class` is `data.good_class`."""

    mask_suffix: str = "_mask"
    good: str = ""
    defect: str = ""
    good_class: str = ""


@dataclass(frozen=True, slots=True)
class Photograph:
    """One photograph as a layout describes it.

    `path` is its file in the source, and its name from then on. `split` is None where ingest is to split: good parts
    are then dealt to train and test. Only good photographs are trained on: a defective one is "test", from where
    supervised methods take their share. `defect` is the type of the defect: "good" for a good part, "unknown" for
    an unknown one. What any of `masks` marks is defect, what any of `ignore` marks counts neither way: each is the path
    of a mask file or a drawing. `group` names the part that the photograph shows, "" = one of its own. `size` is
    the width and height that an annotation states, checked against the photograph. `content` gives the bytes of
    an image file (PNG, say) where the photograph is not a file of its own in the source; it is called when they are
    needed, several times and by several threads, and gives the same bytes each time. `metadata` are columns of the
    source that nothing here reads, (name, value), kept in the manifest.
    """

    path: str
    split: LayoutSplit | None
    label: Label
    defect: str
    masks: tuple[str | Drawing, ...] = ()
    group: str = ""
    ignore: tuple[str | Drawing, ...] = ()
    size: tuple[int, int] | None = None
    content: Callable[[], bytes] | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def mask_files(self) -> tuple[str, ...]:
        """The files among its masks and ignored regions."""
        return tuple(item for item in (*self.masks, *self.ignore) if isinstance(item, str))

    @property
    def is_training_normal(self) -> bool:
        """Whether it is a good part that is trained on, or that ingest may choose for training."""
        return self.label == "good" and self.split in (None, "train")


@dataclass(frozen=True)
class Reading:
    """What a layout reader made of a source. `notes` are sentences about what it decided or left out; they begin with
    what decides what is learnt or measured. `layout` and `top` are filled in by `read_layout`: the reader's name, and
    the folder that paths start from ("" or "name/"). `saturation` are the rules of sPRO (MVTec LOCO)."""

    photographs: tuple[Photograph, ...]
    notes: tuple[str, ...] = ()
    top: str = ""
    layout: str = ""
    saturation: tuple[Saturation, ...] = ()


class LayoutReader(ABC):
    """A layout of photographs in a source.

    `name` is what `data.layout` says. `labels_by_folder`: labels come from the names of folders alone, so that file
    names which speak against them are reported.
    """

    name: ClassVar[str]
    labels_by_folder: ClassVar[bool] = False

    @abstractmethod
    def detect(self, files: SourceFiles) -> Match:
        """Whether these files are of this layout. Called for every source whose layout is not named, at its top and in
        the folders that everything lies in: quick, and cautious. It may open a few files; where it raises BadInput,
        other layouts are tried, and the sentence is shown where none recognises the source."""

    @abstractmethod
    def read(self, files: SourceFiles, options: Options) -> Reading:
        """The photographs of a source that `detect` recognised. Raises BadInput for what is wrong with the source: one
        sentence that names the file and says what to do."""
