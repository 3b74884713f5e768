"""The bytes of what a reading names: files of the source, and photographs that a reader makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vqi.dataset.layouts.detection import reader_errors
from vqi.dataset.layouts.interface import Photograph, Reading
from vqi.platform.errors import BadInput

# A 100-megapixel photograph with three 16-bit channels, uncompressed, takes 600 MB.
MAX_FILE_BYTES = 1 << 30


class Contents:
    """Reads a reading's photographs and masks from the files of its source, by their names in it."""

    def __init__(self, files: Mapping[str, Path], reading: Reading) -> None:
        self._files, self._top, self._layout = files, reading.top, reading.layout

    def of_photograph(self, photograph: Photograph) -> bytes:
        """The image file of a photograph. Raises BadInput where it is larger than MAX_FILE_BYTES, or a reader fails."""
        if photograph.content is None:
            return self.of_file(photograph.path)
        with reader_errors(self._layout):
            content = bytes(photograph.content())
        return _bounded(content, photograph.path)

    def of_file(self, path: str) -> bytes:
        """A file of the source. Raises BadInput where it is larger than MAX_FILE_BYTES."""
        with open(self._files[self._top + path], "rb") as stream:
            return _bounded(stream.read(MAX_FILE_BYTES + 1), path)

    def unused_path(self, path: str) -> str:
        """`path`, or one made from it that no file of the source has."""
        while self._top + path in self._files:
            path = f"{path}.png"
        return path


def _bounded(content: bytes, path: str) -> bytes:
    if len(content) > MAX_FILE_BYTES:
        raise BadInput(f"{path} is larger than {MAX_FILE_BYTES >> 30} GiB; that is not a photograph.")
    return content
