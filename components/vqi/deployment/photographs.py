"""Photographs from wherever they are, as one stream for `Predictor.predict`."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from vqi.deployment.photograph_files import MAY_BE_PHOTOGRAPHS, expand_pattern, explain_omission
from vqi.deployment.predictor import MAX_FILE_BYTES, ImageSource, Opener, Unreadable
from vqi.platform.errors import BadInput
from vqi.storage.object_store import Address, ObjectStore

# How long one photograph may take to arrive from an address.
FETCH_SECONDS = 60.0
STORE, WEB = "s3://", ("http://", "https://")
_SECRET = re.compile(r"(?i)((?:^|&)[^=&]*(?:sign|sig|token|credential|key|secret|password)[^=&]*=)[^&]*")
_MAGIC = re.compile(r"[*?[]")


class Photographs:
    """Photographs from wherever they are, in order, for `Predictor.predict`.

    `sources`: one, or any iterable of them, a generator too, which is taken from as photographs are predicted:

    - a file, a folder (searched through) or a pattern (`line1/*.png`), as a path or a text,
    - `s3://bucket/KEY`: an object, all photographs below a prefix, or a pattern; the store is that of the environment
      (see ObjectStore.from_environment),
    - `http://` and `https://`, from the `hosts` alone; a host in a private network only where its very address is
      named, also after redirects,
    - the bytes of a file, or an array (see `pixels_of`); with a name of its own as a pair (name, bytes or array),
    - an iterable of any of these.

    Iterating yields what Predictor.predict takes: what is fetched is fetched when it is decoded, several at once. What
    names nothing, and what is passed over though it may be a photograph, is an Unreadable in its turn. Photographs are
    not kept; names of one folder or prefix are listed at once. `left_out` is a folder that is never searched. With
    `keep`, what was fetched of a remote photograph stays on disk until `content` takes it (a picture shall be drawn of
    it): close then, or use as a context.

    Raises BadInput (while iterating) where a source is none of these, a folder cannot be read or the environment names
    no store; RunFailed where the store does not answer.
    """

    def __init__(
        self, sources: Any, *, hosts: Sequence[str] = (), left_out: Path | None = None, keep: bool = False
    ) -> None:
        self._sources, self._hosts, self._left_out = sources, tuple(hosts), left_out
        self._store: ObjectStore | None = None
        self._lock = threading.Lock()
        self._kept: dict[str, Path] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="vqi-photographs-") if keep else None
        self._number = 0

    def __enter__(self) -> Photographs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop what was kept."""
        if self._folder:
            self._folder.cleanup()

    def __iter__(self) -> Iterator[ImageSource | Unreadable]:
        return self._expand(self._sources)

    def content(self, name: str) -> bytes | None:
        """What was kept of the remote photograph `name`, once; None of everything else."""
        with self._lock:
            path = self._kept.pop(name, None)
        if path is None:
            return None
        data = path.read_bytes()
        path.unlink()
        return data

    def _expand(self, source: Any) -> Iterator[ImageSource | Unreadable]:
        if isinstance(source, str) and source.startswith(STORE):
            yield from self._stored(source)
        elif isinstance(source, str) and source.lower().startswith(WEB):
            yield shown(source), self._opener(source, lambda: self._fetch(source))
        elif isinstance(source, str | os.PathLike):
            yield from self._files(os.fspath(source))
        elif isinstance(source, bytes | np.ndarray | Unreadable) or _is_pair(source):
            yield source
        elif isinstance(source, Iterable):
            for one in source:
                yield from self._expand(one)
        else:
            raise BadInput(
                f"A {type(source).__name__} holds no photographs; give a path, a pattern, an address, bytes, an array, "
                "or an iterable of these."
            )

    def _files(self, pattern: str) -> Iterator[Path | Unreadable]:
        named = False
        for path in expand_pattern(pattern, self._left_out):
            named = True
            reason = explain_omission(str(path)) if str(path) != pattern else ""
            yield Unreadable(str(path), reason) if reason else path
        if not named:
            yield Unreadable(pattern, f"{pattern} {'holds no images' if os.path.isdir(pattern) else 'names no file'}.")

    def _stored(self, text: str) -> Iterator[ImageSource | Unreadable]:
        address = Address.parse(text)
        store = self._store = self._store or ObjectStore.from_environment()
        if store.find(address):
            yield self._object(store, address)
            return
        parts = address.key.split("/")
        magic = next((number for number, part in enumerate(parts) if _MAGIC.search(part)), None)
        above = Address(address.bucket, "/".join(parts[:magic]))
        named = False
        for item in store.objects(above):
            if magic is not None and not _matches(item.key.split("/"), parts):
                continue
            if magic is None and not item.key.lower().endswith(MAY_BE_PHOTOGRAPHS):
                continue  # its content is not looked at before it is wanted
            named = True
            one = Address(address.bucket, item.key)
            reason = explain_omission(str(one))
            yield Unreadable(str(one), reason) if reason else self._object(store, one)
        if not named:
            yield Unreadable(text, f"{text} {'names no object' if magic is not None else 'holds no images'}.")

    def _object(self, store: ObjectStore, address: Address) -> tuple[str, Opener]:
        return str(address), self._opener(str(address), lambda: store.read_bytes(address, MAX_FILE_BYTES))

    def _fetch(self, address: str) -> bytes:
        from vqi.deployment.serving.refusals import Refusal
        from vqi.deployment.serving.remote_photographs import fetch_photograph

        if not self._hosts:
            raise BadInput(
                f"{shown(address)} is not fetched: no host is allowed; name its host (--allow-host, or hosts=)."
            )
        try:
            return fetch_photograph(address, self._hosts, MAX_FILE_BYTES, FETCH_SECONDS)
        except Refusal as refusal:
            raise BadInput(f"{shown(address)} is not fetched: {refusal}") from refusal

    def _opener(self, address: str, fetch: Opener) -> Opener:
        """`fetch`, and keep what it brings where that is wanted."""
        folder = self._folder
        if folder is None:
            return fetch

        def keeping() -> bytes:
            data = fetch()
            with self._lock:
                self._number += 1
                path = Path(folder.name, str(self._number))
                self._kept[shown(address)] = path
            path.write_bytes(data)
            return data

        return keeping


def shown(address: str) -> str:
    """An address as people may read it: without password, and without what signs it."""
    with suppress(ValueError):
        parts = urlsplit(address)
        if parts.scheme in ("http", "https"):
            host = parts.netloc.rpartition("@")[2]
            return urlunsplit((parts.scheme, host, parts.path, _SECRET.sub(r"\1...", parts.query), ""))
    return address


def name_of(source: ImageSource | Unreadable) -> str:
    """What a source is called in results; "" of bytes and arrays without a name of their own."""
    if isinstance(source, Unreadable):
        return source.name
    if isinstance(source, tuple):
        return source[0]
    return os.fspath(source) if isinstance(source, str | os.PathLike) else ""


def _is_pair(source: Any) -> bool:
    return (
        isinstance(source, tuple)
        and len(source) == 2
        and isinstance(source[0], str)
        and (isinstance(source[1], bytes | np.ndarray) or callable(source[1]))
    )


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a key match those of a pattern; `**` stands for any number of parts, as in a glob."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
