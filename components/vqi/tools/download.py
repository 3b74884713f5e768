"""An archive from the web, resumed where it stopped, compared with its SHA-256 and unpacked into a folder that appears
whole."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import urllib3

from vqi.dataset.archives import is_archive, unpacked
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.files import locked, sha256_of, whole_folder
from vqi.platform.logs import logger
from vqi.platform.progress import Progress
from vqi.platform.proxies import proxy_of
from vqi.tools.public_sets import PublicSet

log = logger(__name__)

ATTEMPTS = 5
CHUNK, MIB = 1 << 20, 1 << 20
TIMEOUT = urllib3.Timeout(connect=20, read=60)
# HEAD alone: whoever asks what there is waits no longer.
IMPATIENT = urllib3.Timeout(connect=5, read=5)
REDIRECTS = 5


class _Unfinished(Exception):
    """An answer that another attempt may better."""


@dataclass(frozen=True)
class Source:
    """Where an archive is taken from: an http or https address, and the archive's file name."""

    address: str
    file: str


def source_of(public: PublicSet, mirror: str = "") -> Source:
    """Where a set is taken from: its own address, or `mirror`: an archive's address, or one that ends with "/" and
    holds the archive under its usual name.

    Raises BadInput where neither can be used.
    """
    if not (mirror or public.address):
        raise BadInput(
            f"{public.title} has no address that a program can load: get it by {public.page}, then name the folder "
            "with data.source, or give the archive's address with --mirror."
        )
    address = f"{mirror}{public.file}" if mirror.endswith("/") else mirror or public.address
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(f"{address!r} is not an address; it must begin with https:// or http://.")
    if parts.username or parts.password:
        raise BadInput("The address holds a name or a password, which would be shown in logs; use one without.")
    named = parts.path.rpartition("/")[2]
    return Source(address, named if mirror and is_archive(named) else public.file)


def size_of(source: Source, environ: Mapping[str, str]) -> int | None:
    """Bytes of the archive as its server states them, None where it does not."""
    try:
        response = _pool(source.address, environ, IMPATIENT).request("HEAD", source.address, retries=_redirects())
    except urllib3.exceptions.HTTPError:
        return None
    length = response.headers.get("Content-Length", "")
    return int(length) if response.status == 200 and length.isdecimal() else None


def download(source: Source, sha256: str, out: Path, environ: Mapping[str, str], keep: bool = False) -> int:
    """Load the archive, compare its SHA-256 where there is one, unpack it into `out` and return how many files it held.

    What was loaded stays in `OUT.download` until it is unpacked, so that the same call goes on where one stopped;
    `keep` leaves the archive there. Raises BadInput where `out` holds anything, where the archive is not the one
    expected or not harmless, and where the server has none; RunFailed where it could not be loaded whole.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out} exists already; name a folder that does not.")
    held = out.with_name(f"{out.name}.download")
    held.mkdir(parents=True, exist_ok=True)
    lock, archive = held / "lock", held / source.file
    try:
        with locked(lock, 1.0, f"{held}, which another download fills,"):
            if not archive.is_file():
                _load(source, archive, environ)
            try:
                if sha256 and (actual := sha256_of(archive)) != sha256:
                    raise BadInput(
                        f"{source.address} is not the archive that is expected: its SHA-256 is {actual}, not {sha256}; "
                        "it was removed. Try --mirror with another address."
                    )
                count = _unpack(archive, held, out)
            except BadInput:
                archive.unlink()  # the next call would meet it again, whatever address it names
                raise
            if not keep:
                archive.unlink()
    finally:
        # A part that the next call continues stays.
        if list(held.iterdir()) == [lock]:
            shutil.rmtree(held)
    return count


def _unpack(archive: Path, held: Path, out: Path) -> int:
    """Unpack into `out`, by way of `held` on the same disk; how many files there were."""
    with unpacked(archive, archive.name, inside=held) as files, whole_folder(out) as folder:
        for path, file in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
        return len(files)


def _load(source: Source, archive: Path, environ: Mapping[str, str]) -> None:
    """Load an archive to `archive`, which appears whole; a part of an earlier call is continued where the server
    answers that the file is still the same."""
    part, mark = archive.with_name(f"{archive.name}.part"), archive.with_name(f"{archive.name}.mark")
    pool, failures, why = _pool(source.address, environ, TIMEOUT), 0, ""
    while failures < ATTEMPTS:
        begun = _size(part)
        try:
            total = _receive(pool, source, part, mark)
        except _Unfinished as error:
            why = str(error)
        except urllib3.exceptions.MaxRetryError as error:
            why = "no connection" if isinstance(error.reason, urllib3.exceptions.NewConnectionError) else "no answer"
        except urllib3.exceptions.HTTPError as error:
            why = f"the connection broke off, {type(error).__name__}"
        else:
            if total is None or _size(part) == total:
                os.replace(part, archive)
                mark.unlink(missing_ok=True)
                return
            why = f"{_size(part)} of {total} bytes came"
        failures = 1 if _size(part) > begun else failures + 1
        if failures < ATTEMPTS:
            log.info(f"{source.file}: {why}; trying again")
            time.sleep(min(2.0 ** (failures - 1), 10.0) / 2)
    remedy = f"goes on where it stopped, at {_size(part) / MIB:.0f} MiB" if _size(part) else "tries again"
    raise RunFailed(f"{source.address} could not be loaded whole ({why}); the same command {remedy}.")


def _receive(pool: urllib3.PoolManager, source: Source, part: Path, mark: Path) -> int | None:
    """Append to `part` what the server still has of the archive; the whole archive's bytes, None where it does not
    state them."""
    begun = _size(part)
    # Of another address nothing is continued: its validators say nothing of this one's.
    address, _, validator = (mark.read_text(encoding="utf-8") if mark.is_file() else "").partition("\n")
    validator = validator if address == source.address else ""
    headers = {"Accept-Encoding": "identity"}
    if begun and validator:
        headers |= {"Range": f"bytes={begun}-", "If-Range": validator}
    response = pool.request(
        "GET", source.address, headers=headers, preload_content=False, retries=_redirects(), decode_content=False
    )
    try:
        if source.address.startswith("https:") and (response.url or "").startswith("http:"):
            raise BadInput(f"{source.address} leads to an address without encryption; nothing was loaded.")
        if response.status == 206:
            stated = re.fullmatch(rf"bytes {begun}-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if not stated:
                part.unlink()
                raise _Unfinished("the server sent another range")
            total: int | None = int(stated[1])
        elif response.status == 200:
            begun, length = 0, response.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
            # A strong tag alone says that bytes are the same.
            tag = response.headers.get("ETag", "")
            strong = "" if tag.startswith("W/") else tag or response.headers.get("Last-Modified", "")
            mark.write_text(f"{source.address}\n{strong}", "utf-8")
        elif response.status == 416:
            part.unlink()
            raise _Unfinished("the server sent a range beyond the end")
        elif response.status >= 500 or response.status == 429:
            raise _Unfinished(f"the server answered with status {response.status}")
        else:
            raise BadInput(
                f"{source.address} answers with status {response.status}; get the archive another way and give its "
                "address with --mirror."
            )
        progress = Progress(f"{source.file}, MiB", -(-(total or 0) // MIB), begun=begun // MIB)
        with open(part, "ab" if begun else "wb") as file:
            # `read1` gives what is there: what came before a connection ends is kept.
            while chunk := response.read1(CHUNK):
                if total is not None and begun + len(chunk) > total:
                    raise BadInput(f"{source.address} sends more than the {total} bytes that it states.")
                file.write(chunk)
                before, begun = begun, begun + len(chunk)
                progress.advance(begun // MIB - before // MIB)
        return total
    finally:
        with suppress(Exception):
            response.close()


def _pool(address: str, environ: Mapping[str, str], timeout: urllib3.Timeout) -> urllib3.PoolManager:
    proxy = proxy_of(address, environ)
    return proxy.manager(timeout=timeout) if proxy else urllib3.PoolManager(timeout=timeout)


def _redirects() -> urllib3.Retry:
    """Redirects are followed; trying again is `_load`'s."""
    return urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=REDIRECTS)


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0
