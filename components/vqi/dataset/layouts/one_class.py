"""One class of a classification set is good, every other one is a defect: a folder for each class, or IDX files as
MNIST has them (train-images-idx3-ubyte and train-labels-idx1-ubyte, t10k- or test-, with .gz or without).

`data.good_class` names the class: a folder, or a digit of IDX files. Of the train split the good class alone is kept.
Format: http://yann.lecun.com/exdb/mnist.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

from vqi.dataset.layouts.annotations import is_split_name, settled, split_in_name
from vqi.dataset.layouts.interface import LayoutReader, Match, Options, Photograph, Reading, SourceFiles
from vqi.dataset.layouts.listing import counted, examples
from vqi.dataset.layouts.names import folder_key, is_image_folder
from vqi.platform.errors import BadInput

_IMAGES = re.compile(r"(?:.*/)?((?:train|t10k|test))-images[.-]idx3-ubyte(\.gz)?", re.IGNORECASE)
_MOST_BYTES = 1 << 30


class OneClass(LayoutReader):
    """Reads classification sets of which one class is good."""

    name = "one-class"

    def detect(self, files: SourceFiles) -> Match:
        """Whether there are IDX files of images; folders of classes fit only by name, or where `data.good_class` is
        set."""
        if idx := _idx_files(files):
            return Match(0.93, f"it has {idx[0]}, IDX files as MNIST has them")
        if files.listing.folders():
            return Match(0.3, "it has a folder for each class", only_by_name=True)
        return Match(0.0, "The source has neither IDX files nor a folder for each class, as layout one-class needs.")

    def read(self, files: SourceFiles, options: Options) -> Reading:
        """The photographs of the good class, and of the others where they are tested on."""
        idx = _idx_files(files)
        if not options.good_class:
            classes = (
                "a digit" if idx else f"one of {examples(sorted({_class_of(p) for p in files.listing.paths}), 10)}"
            )
            raise BadInput(f"Which class is good? Set data.good_class to {classes}.")
        photographs = _of_idx(files, idx, options.good_class) if idx else _of_folders(files, options.good_class)
        left = sum(photograph is None for photograph in photographs)
        kept, notes = settled([photograph for photograph in photographs if photograph])
        notes.insert(
            0, f"The class {options.good_class} is good, as data.good_class says, and every other one is a defect."
        )
        if left:
            notes.append(f"{counted(left, 'photograph')} of other classes in the train split left out.")
        return Reading(kept, tuple(notes))


def _class_of(path: str) -> str:
    """The first folder that is neither a split's nor says that pictures lie in it; "" where there is none."""
    folders = [f for f in path.split("/")[:-1] if not is_split_name(f) and not is_image_folder(f)]
    return folders[0] if folders else ""


def _of_folders(files: SourceFiles, good_class: str) -> list[Photograph | None]:
    classes = sorted({_class_of(path) for path in files.listing.paths} - {""})
    if folder_key(good_class) not in map(folder_key, classes):
        raise BadInput(f"data.good_class is {good_class!r}, and the source has the classes {examples(classes, 10)}.")
    return [
        _photograph(path, _class_of(path), folder_key(_class_of(path)) == folder_key(good_class))
        for path in files.listing.paths
        if _class_of(path)
    ]


def _photograph(
    path: str, class_name: str, good: bool, content: Callable[[], bytes] | None = None
) -> Photograph | None:
    split = split_in_name(path)
    if good:
        return Photograph(path, split, "good", "good", content=content)
    if split == "train":
        return None
    kind = f"class {class_name}" if class_name.isdigit() or class_name in ("good", "unknown") else class_name
    return Photograph(path, "validation" if split == "validation" else "test", "defect", kind, content=content)


def _idx_files(files: SourceFiles) -> list[str]:
    names = (*files.listing.others, *files.listing.archives)
    return [name for name in names if _IMAGES.fullmatch(name) and _labels_of(name) in files]


def _labels_of(images: str) -> str:
    return re.sub(r"images(.)idx3", r"labels\1idx1", images)


def _of_idx(files: SourceFiles, names: list[str], good_class: str) -> list[Photograph | None]:
    if not good_class.isdigit():
        raise BadInput(f"data.good_class is {good_class!r}; the classes of IDX files are numbers.")
    photographs: list[Photograph | None] = []
    for name in names:
        images, labels = _idx(files, name, 3), _idx(files, _labels_of(name), 1)
        if len(images) != len(labels):
            raise BadInput(f"{name} has {len(images)} images, and its labels are {len(labels)}; bring the right ones.")
        match = _IMAGES.fullmatch(name)
        folder = "train" if match and match[1].lower() == "train" else "test"
        width = len(str(len(images)))
        for position, label in enumerate(labels.tolist()):
            content = partial(_png, images[position])
            path = f"{folder}/{position:0{width}d}.png"
            photographs.append(_photograph(path, str(label), label == int(good_class), content))
    if not any(photograph and photograph.label == "good" for photograph in photographs):
        raise BadInput(f"data.good_class is {good_class}, and no image of the IDX files is of that class.")
    return photographs


def _idx(files: SourceFiles, name: str, dimensions: int) -> np.ndarray:
    """The values of an IDX file, uint8 with as many dimensions."""
    try:
        with files.open(name) as raw:
            stream = gzip.GzipFile(fileobj=raw) if name.lower().endswith(".gz") else raw
            content = stream.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{name} cannot be unpacked ({error}); copy it again.") from error
    start = 4 + 4 * dimensions
    if len(content) > _MOST_BYTES or content[:4] != bytes([0, 0, 8, dimensions]) or len(content) < start:
        raise BadInput(f"{name} is not an IDX file of bytes in {dimensions} dimensions, or larger than a GiB.")
    shape = tuple(int(side) for side in np.frombuffer(content, ">u4", dimensions, 4))
    size = 1
    for side in shape:
        size *= side
    if not size or size != len(content) - start:
        raise BadInput(
            f"{name} holds {len(content) - start} bytes and says {' x '.join(map(str, shape))}; copy it again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()
