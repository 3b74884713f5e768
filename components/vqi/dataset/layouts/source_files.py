"""The files of a source as a layout reader sees them: names, and their content on request.

Every source is the same here: a folder, an archive, a prefix of an object store. A name is a key of a mapping and never
a path of this machine, so nothing outside of the source can be opened.
"""

from __future__ import annotations

import io
import json
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from vqi.dataset.layouts.listing import Listing
from vqi.dataset.layouts.names import normalised
from vqi.platform.errors import BadInput

# A quarter of a GiB of JSON takes some GiB once it is parsed; a reader that streams states a limit of its own.
MOST_BYTES = 256 << 20


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError where it is not JSON, or an object has a key twice: which of the two
    is meant is not known; RecursionError where it is nested too deeply."""
    return json.loads(text, object_pairs_hook=_without_repetition)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        again = next(name for name in value if names.count(name) > 1)
        raise ValueError(f"the key {again[:40]!r} comes twice in one object")
    return value


class SourceFiles:
    """The files of a source by '/'-separated names, of which `listing` has those below `top`, sorted by kind.

    `name` is what the source is called. `opened` holds the full names of those that were opened.
    """

    def __init__(self, files: Mapping[str, Path], name: str = "", listing: Listing | None = None) -> None:
        self._files, self.name = files, name
        self.listing = Listing.of(files) if listing is None else listing
        self.opened: set[str] = set()

    @property
    def top(self) -> str:
        """The folder in the source that names start from: "" or "name/"."""
        return self.listing.top

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and f"{self.top}{path}" in self._files

    def open(self, path: str) -> BinaryIO:
        """A file for reading, as a stream that is closed by the caller. Raises BadInput where the source has no such
        file."""
        if path not in self:
            raise BadInput(f"The source has no file {path!r}.")
        self.opened.add(f"{self.top}{path}")
        return open(self._files[f"{self.top}{path}"], "rb")

    def read(self, path: str, most_bytes: int = MOST_BYTES) -> bytes:
        """The content of a file. Raises BadInput where the source has no such file, or it is larger than
        `most_bytes`."""
        with self.open(path) as stream:
            content = stream.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise BadInput(f"{path} is larger than {most_bytes} bytes, more than is read of such a file.")
        return content

    def text(self, path: str, most_bytes: int = MOST_BYTES) -> str:
        """A text file, UTF-8 with a byte order mark or without. Raises BadInput as `read` does, and where it is not
        UTF-8."""
        try:
            return self.read(path, most_bytes).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise BadInput(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8.") from error

    def json(self, path: str, most_bytes: int = MOST_BYTES) -> Any:
        """The value of a JSON file. Raises BadInput as `text` does, and where it is not JSON, or an object has a key
        twice."""
        try:
            return parse_json(self.text(path, most_bytes))
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
            raise BadInput(f"{path} is not JSON ({reason}); mend or remove it.") from error

    def lines(self, path: str, most_bytes: int = MOST_BYTES) -> io.StringIO:
        """A text file for reading line by line, such as by `csv.reader`. Raises BadInput as `text` does."""
        return io.StringIO(self.text(path, most_bytes), newline="")

    def find(self, name: str, beside: str = "") -> str:
        """The file that an annotation names, as a path of the source: relative to the folder of the file `beside`, by
        slashes or backslashes.

        Raises BadInput where it is absolute, leads out of the source, or does not exist: `beside` is named.
        """
        where = f"{beside} names" if beside else "The layout names"
        if not isinstance(name, str) or not name:
            raise BadInput(f"{where} the file {name!r}; write the path of a file.")
        plain = normalised(name).replace("\\", "/")
        if plain.startswith("/") or plain[1:2] == ":":
            raise BadInput(f"{where} the absolute path {name!r}; write it relative to {beside or 'the source'}.")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(beside), plain))
        if path == ".." or path.startswith("../"):
            raise BadInput(f"{where} {name!r}, which leads out of the source; bring that file into it.")
        if path not in self:
            raise BadInput(f"{where} {name!r}, and the source has no file {path!r}.")
        return path

    def below(self, folder: str) -> SourceFiles:
        """The files of one folder at the top."""
        return self._seen_as(self.listing.below(folder))

    def below_top_folder(self) -> SourceFiles:
        """The files inside the one folder that all images lie in, where it has no role of its own; else these."""
        inside = self.listing.below_top_folder()
        return self if inside is self.listing else self._seen_as(inside)

    def passed_over(self) -> list[str]:
        """Sentences about the files of the whole source that are not images and were not opened."""
        return Listing.of(self._files).passed_over(self.opened)

    def untouched(self) -> SourceFiles:
        """The same files, none of them opened yet."""
        return self._seen_as(self.listing)

    def _seen_as(self, listing: Listing) -> SourceFiles:
        return SourceFiles(self._files, self.name, listing)
