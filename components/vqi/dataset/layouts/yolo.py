"""YOLO: a text file for each photograph in a folder labels/ that mirrors images/, or beside it; a line is a class and a
box (x and y of the centre, width, height) or an outline (x, y, x, y, ...), in shares of width and height. data.yaml or
classes.txt name the classes.

A photograph without a text file, or with an empty one, is good, as YOLO takes it. Format: Ultralytics' documentation,
"Detection / Segmentation dataset format".
"""

from __future__ import annotations

from typing import Any

import yaml

from vqi.dataset.layouts.annotations import Shape, annotated, moved_note, number, settled, split_in_name
from vqi.dataset.layouts.interface import Box, LayoutReader, Match, Options, Polygon, Reading, SourceFiles
from vqi.dataset.layouts.listing import counted, examples
from vqi.dataset.layouts.names import folder_key
from vqi.platform.errors import BadInput

_CLASSES = ("classes.txt", "obj.names")
_LARGEST = 1 << 20


class _Loader(yaml.SafeLoader):
    """As the safe loader, but a key that comes twice is an error: which of the two is meant is not known."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            again = next(key for key in keys if keys.count(key) > 1)
            raise yaml.YAMLError(f"the key {again[:40]!r} comes twice")
        return super().construct_mapping(node, deep)


class YOLO(LayoutReader):
    """Reads YOLO's boxes and outlines."""

    name = "yolo"

    def detect(self, files: SourceFiles) -> Match:
        """Whether photographs have text files of labels, and the classes have names."""
        labelled = [path for path in files.listing.paths if _label_file(files, path)]
        names = _class_file(files)
        if labelled and names:
            return Match(0.87, f"it has {names} and {counted(len(labelled), 'file')} of labels of YOLO")
        return Match(0.0, "The source has no data.yaml or classes.txt with text files of labels, as layout yolo needs.")

    def read(self, files: SourceFiles, options: Options) -> Reading:
        """A photograph for each image."""
        classes = _classes(files)
        photographs, bare, moved = [], [], 0
        for path in files.listing.paths:
            labels, split = _label_file(files, path), split_in_name(path)
            shapes = _shapes(files, labels, classes) if labels else []
            if not labels:
                bare.append(path)
            photograph = annotated(path, shapes, split)
            moved += split == "train" and photograph.label == "defect"
            photographs.append(photograph)
        kept, notes = settled(photographs)
        if bare:
            notes.insert(
                0,
                f"{counted(len(bare), 'photograph')} without a file of labels taken as good, as YOLO does "
                f"({examples(bare)}).",
            )
        return Reading(kept, (*notes, *moved_note(moved)))


def _label_file(files: SourceFiles, path: str) -> str:
    """The text file of a photograph: in labels/ in the place of the last images/, or beside it; "" where it has
    none."""
    bare = path.rsplit(".", 1)[0]
    parts = bare.split("/")
    for position in range(len(parts) - 2, -1, -1):
        if folder_key(parts[position]) == "images":
            mirrored = "/".join([*parts[:position], "labels", *parts[position + 1 :]]) + ".txt"
            if mirrored in files:
                return mirrored
    return f"{bare}.txt" if f"{bare}.txt" in files else ""


def _class_file(files: SourceFiles) -> str:
    return next(
        (
            name
            for name in files.listing.others
            if name.split("/")[-1] in _CLASSES or (name.lower().endswith((".yaml", ".yml")) and "/" not in name)
        ),
        "",
    )


def _classes(files: SourceFiles) -> dict[int, str]:
    name = _class_file(files)
    if not name:
        raise BadInput("The source has no data.yaml or classes.txt that names the classes, as layout yolo needs.")
    if name.split("/")[-1] in _CLASSES:
        return dict(enumerate(line.strip() for line in files.lines(name, _LARGEST) if line.strip()))
    try:
        content: Any = yaml.load(files.text(name, _LARGEST), _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadInput(f"{name} is not YAML ({str(error).splitlines()[0]}); mend it.") from error
    names = content.get("names") if isinstance(content, dict) else None
    numbered = dict(enumerate(names)) if isinstance(names, list) else names
    # Aliases make a small file a large text: what is not plain is refused before it is written out.
    if isinstance(numbered, dict) and all(
        isinstance(key, int) and isinstance(text, (str, int, float)) for key, text in numbered.items()
    ):
        return {key: str(text) for key, text in numbered.items()}
    raise BadInput(f"{name} has no names of classes; write them as names: [scratch, dent].")


def _shapes(files: SourceFiles, labels: str, classes: dict[int, str]) -> list[Shape]:
    shapes = []
    for position, line in enumerate(files.lines(labels), 1):
        where, cells = f"{labels}, line {position}", line.split()
        if not cells:
            continue
        kind = number(cells[0], where)
        if kind not in classes:
            raise BadInput(f"{where} has the class {cells[0][:40]}, and {len(classes)} have names; mend the labels.")
        values = [number(cell, where) for cell in cells[1:]]
        drawing: Box | Polygon
        if len(values) == 4:
            x, y, width, height = values
            drawing = Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2, relative=True)
        elif len(values) >= 6 and len(values) % 2 == 0:
            drawing = Polygon(list(zip(values[::2], values[1::2], strict=True)), relative=True)
        else:
            raise BadInput(f"{where} has {len(values)} numbers after the class: a box has 4, an outline 6, 8, 10 ...")
        if drawing.problem:
            raise BadInput(f"{where} has {drawing.problem}; mend the labels.")
        shapes.append(Shape(classes[int(kind)], drawing))
    return shapes
