"""Any S3 store: addresses, listing, downloads and uploads that survive a bad network and are complete or not there at
all.

Endpoint, credentials and certificates come from the environment that other S3 tools read. Nothing here is particular to
one server.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vqi.platform.errors import BadInput, RunFailed, VqiError
from vqi.platform.files import sha256_of
from vqi.platform.logs import logger
from vqi.platform.progress import tracked

if TYPE_CHECKING:
    from minio import Minio
    from minio.lifecycleconfig import Rule

log = logger(__name__)

T = TypeVar("T")

# The pauses between nine attempts are 26 to 52 seconds together: a server that is started anew is waited for.
ATTEMPTS = 9
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 20.0
# Files at once, and parts of one file at once.
PARALLEL, PARALLEL_PARTS = 8, 3
# A larger file is sent in parts, each tried again by itself; S3 takes 10,000 parts of 5 MiB and more.
PART_SIZE, MOST_PARTS = 8 << 20, 10_000
UPLOADS = 3
# What a broken connection loses at most.
CHUNK_SIZE = 1 << 16


@dataclass(frozen=True)
class Address:
    """An address in an object store: s3://bucket/key. The key may be empty (the whole bucket)."""

    bucket: str
    key: str

    @staticmethod
    def parse(text: str) -> Address:
        """Raises BadInput where `text` is not an s3:// address with a bucket name as S3 allows them."""
        match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", text, re.DOTALL)
        if not match:
            raise BadInput(f"{text!r} is not an address in an object store; write s3://bucket/prefix.")
        return Address(match[1], (match[2] or "").strip("/"))

    def __post_init__(self) -> None:
        # HTTP clients and gateways shorten such paths: the request would then name another object than the one signed.
        if not {".", ".."}.isdisjoint(self.key.split("/")):
            raise BadInput(
                f"{str(self)!r} has '.' or '..' as a part of its key, which HTTP cannot carry; rename the object."
            )

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class StoredObject:
    """An object as the store lists it: its key, its size in bytes and its ETag without quotes ("" where there is
    none)."""

    key: str
    size: int
    etag: str


class ObjectStore:
    """A client of one S3 store; safe to use from several threads. What may pass is tried ATTEMPTS times in a row with
    growing pauses."""

    def __init__(self, client: Minio, endpoint: str, pause: float = FIRST_PAUSE) -> None:
        self._client, self.endpoint, self._pause = client, endpoint, pause
        self._last_report, self._report_lock = float("-inf"), threading.Lock()

    @staticmethod
    def from_environment(environ: Mapping[str, str] = os.environ, patience: float = 0.0) -> ObjectStore:
        """The store that the environment names.

        Endpoint: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, MINIO_ENDPOINT or MLFLOW_S3_ENDPOINT_URL; without one, Amazon's
        of AWS_REGION. Credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN; MINIO_ACCESS_KEY,
        MINIO_SECRET_KEY; the AWS credentials file; a web identity or container role. Certificates: AWS_CA_BUNDLE or
        SSL_CERT_FILE. AWS_S3_ADDRESSING_STYLE: path, virtual or auto. A connection and an answer are waited for
        `patience` seconds each, where that is given. Raises BadInput where one is missing or malformed.
        """
        from vqi.storage.s3_client import client_from_environment

        return ObjectStore(*client_from_environment(environ, PARALLEL * PARALLEL_PARTS, patience))

    def objects(self, address: Address) -> list[StoredObject]:
        """The objects under `address` as a folder (its key itself is not among them), in the order of their keys;
        folder markers are left out."""
        prefix = f"{address.key}/" if address.key else ""
        seen: list[StoredObject] = []

        def list_page() -> None:
            # A listing comes in pages of a thousand: one that broke off goes on behind the last key it gave.
            after = seen[-1].key if seen else None
            for item in self._client.list_objects(address.bucket, prefix=prefix, recursive=True, start_after=after):
                if item.object_name:
                    seen.append(StoredObject(item.object_name, item.size or 0, (item.etag or "").strip('"')))

        self._persistently(list_page, address, progress=lambda: len(seen))
        by_key = {item.key: item for item in seen if not item.key.endswith("/")}
        return sorted(by_key.values(), key=lambda item: item.key)

    def find(self, address: Address) -> StoredObject | None:
        """The one object at `address`, or None."""
        if not address.key:
            return None
        entry = self._persistently(lambda: self._stat(address), address)
        return entry[0] if entry else None

    def _stat(self, address: Address) -> tuple[StoredObject, str] | None:
        """The object at `address` and the SHA-256 in its metadata ("" where there is none); None where there is no
        object."""
        from minio.error import S3Error

        try:
            item = self._client.stat_object(address.bucket, address.key)
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchObject", "NotFound"):
                return None
            self._ask_why(error, address)
            raise
        checksum = str((item.metadata or {}).get("x-amz-meta-sha256") or "")
        return StoredObject(address.key, item.size or 0, (item.etag or "").strip('"')), checksum

    def _ask_why(self, error: Exception, address: Address) -> None:
        """The answer to a HEAD request has no body and cannot say why: ask with a request whose answer has one, which
        raises its own error."""
        from vqi.storage.s3_answers import lacks_reason, status_and_code

        if lacks_reason(error):
            try:
                next(iter(self._client.list_objects(address.bucket, prefix=address.key, recursive=True)), None)
            except Exception as listing_error:
                # Listing may be forbidden where reading is not: that says nothing new.
                if status_and_code(listing_error)[1] != "AccessDenied":
                    raise

    def download_file(self, address: str | Address, destination: Path, sha256: str | None = None) -> Path:
        """Bring one object to `destination`, complete or not at all, and return that path.

        An interrupted download goes on where it stopped, from a part file beside `destination`. The content is compared
        with the store's own checksum and with `sha256` where it is given. Raises BadInput for a missing object, wrong
        credentials or another `sha256`.
        """
        source = Address.parse(address) if isinstance(address, str) else address
        destination = Path(destination)
        if destination.is_file() and sha256 and sha256_of(destination) == sha256:
            return destination
        item = self.find(source)
        if item is None:
            self._check_bucket(source)
            raise BadInput(f"There is no object {source} in the store at {self.endpoint}.")
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(destination.parent):
            self._bring(source, item, destination, sha256)
        return destination

    def download_prefix(self, address: Address, cache: Path) -> dict[str, Path]:
        """Bring every object under `address` into `cache`, several at once, and return the files by their names below
        the prefix.

        What is in the cache with the same ETag is not fetched again, so an interrupted call goes on where it stopped.
        Keys never become paths. Raises BadInput where there is nothing under `address`.
        """
        items = self.objects(address)
        if not items:
            self._check_bucket(address)
            raise BadInput(f"There are no objects under {address} in the store at {self.endpoint}.")
        with ThreadPoolExecutor(PARALLEL) as pool:
            futures = {
                item.key: pool.submit(self.cached, Address(address.bucket, item.key), item, cache) for item in items
            }
            try:
                start = len(address.key) + 1 if address.key else 0
                return {
                    key[start:]: future.result()
                    for key, future in tracked(futures.items(), f"download of {address}", len(futures))
                }
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def cached(self, address: Address, item: StoredObject, cache: Path) -> Path:
        """The file of an object in `cache`, fetched where this version of it is not there; other versions of it are
        removed."""
        folder = Path(cache) / hashlib.sha256(f"{self.endpoint}/{address}".encode()).hexdigest()
        file = folder / hashlib.sha256(f"{item.etag}/{item.size}".encode()).hexdigest()
        folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(folder):
            if not (item.etag and file.is_file() and file.stat().st_size == item.size):
                self._bring(address, item, file, None)
                for stale in folder.iterdir():
                    if not stale.name.startswith(file.name):
                        stale.unlink()
        return file

    def upload_file(self, file: Path, address: Address) -> None:
        """Store a file, with its SHA-256 in the object's metadata for those who download it.

        When this returns the whole object is there: its size, checksum and ETag were asked for afterwards. A file
        larger than PART_SIZE goes in parts, of which none is left behind where that fails. Raises BadInput for wrong
        credentials, a missing bucket or file; RunFailed for a full store or one that does not answer.
        """
        try:
            checksum, size = sha256_of(file), Path(file).stat().st_size
        except OSError as error:
            raise BadInput(
                f"The file {file} cannot be read ({error.strerror}), so it cannot be stored as {address}."
            ) from error
        reason = ""
        for _ in range(UPLOADS):
            etag = (
                self._put(Path(file), address, size, checksum)
                if size <= PART_SIZE
                else self._put_in_parts(Path(file), address, size, checksum)
            )
            stored = self._persistently(lambda: self._stat(address), address)
            reason = _difference(stored, size, checksum, etag, Path(file))
            if not reason:
                return
        if stored and stored[1] == checksum:
            self.remove(address)
        raise RunFailed(
            f"{address} was sent {UPLOADS} times to the store at {self.endpoint}, which said yes, but {reason}."
        )

    def _put(self, file: Path, address: Address, size: int, checksum: str) -> str:
        """Send a file in one request; its ETag."""

        def send() -> str:
            with open(file, "rb") as content:
                metadata: dict[str, str | list[str] | tuple[str]] = {"sha256": checksum}
                return (
                    self._client.put_object(
                        address.bucket, address.key, content, size, metadata=metadata, part_size=max(PART_SIZE, 5 << 20)
                    ).etag
                    or ""
                )

        return self._persistently(send, address, writing=True)

    def _put_in_parts(self, file: Path, address: Address, size: int, checksum: str) -> str:
        """Send a file in parts, several at once, and put them together; the ETag of the whole, "" where the answer was
        lost."""
        from minio.datatypes import Part
        from minio.error import MinioException

        from vqi.storage.s3_answers import Incomplete, status_and_code

        # The client's own upload begins anew with every part that fails, and leaves the parts behind where the store is
        # away: its steps one by one.
        client, bucket, key = self._client, address.bucket, address.key
        step = max(PART_SIZE, -(-size // MOST_PARTS))
        cancelled = threading.Event()

        def part(number: int) -> Part:
            if cancelled.is_set():
                raise RunFailed(f"The upload of {address} was given up.")
            with open(file, "rb") as content:
                content.seek((number - 1) * step)
                body = content.read(step)
            return Part(
                number,
                self._persistently(
                    lambda: client._upload_part(bucket, key, body, None, upload, number), address, writing=True
                ),
            )

        def put_together() -> str:
            try:
                etag = client._complete_multipart_upload(bucket, key, upload, parts).etag
            except MinioException as error:
                # It was, and that answer was lost; or it was given up by somebody else. What is there now tells which.
                if status_and_code(error)[1] == "NoSuchUpload":
                    return ""
                raise
            if not etag:
                raise Incomplete("the store says yes and then that it did not put the parts together")
            return etag

        headers: dict[str, str | list[str] | tuple[str]] = {"x-amz-meta-sha256": checksum}
        upload = self._persistently(
            lambda: client._create_multipart_upload(bucket, key, dict(headers)), address, writing=True
        )
        try:
            with ThreadPoolExecutor(PARALLEL_PARTS) as pool:
                futures = [pool.submit(part, number + 1) for number in range(-(-size // step))]
                try:
                    parts = [future.result() for future in futures]
                except BaseException:
                    cancelled.set()
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
            return self._persistently(put_together, address, writing=True)
        except BaseException:
            self._abandon(bucket, key, upload)
            raise

    def _abandon(self, bucket: str, key: str, upload: str) -> None:
        """Drop the parts of an upload, if the store still answers; else its rule for incomplete uploads does."""
        with suppress(VqiError):
            self._persistently(
                lambda: self._client._abort_multipart_upload(bucket, key, upload), Address(bucket, key), attempts=4
            )

    def abandon_uploads(self, address: Address) -> int:
        """Drop the parts that killed uploads to the object `address`, and to those under it as a folder, have left; how
        many uploads there were.

        Nothing is raised: some stores list unfinished uploads of a whole key only, some forbid it, and all can drop old
        ones by a rule.
        """
        dropped = 0
        with suppress(VqiError):
            uploads = self._persistently(
                lambda: (
                    self._client._list_multipart_uploads(
                        address.bucket, prefix=address.key, encoding_type="url"
                    ).uploads
                ),
                address,
                attempts=4,
            )
            for upload in uploads:
                if upload.upload_id and upload.object_name and (upload.object_name + "/").startswith(address.key + "/"):
                    self._abandon(address.bucket, upload.object_name, upload.upload_id)
                    dropped += 1
        return dropped

    def write_text(self, address: Address, text: str, attempts: int = 0) -> None:
        """Store a short text, tried `attempts` times (0: as often as everything else). Raises as `upload_file` does."""
        content = text.encode()

        def send() -> None:
            self._client.put_object(address.bucket, address.key, io.BytesIO(content), len(content))

        self._persistently(send, address, writing=True, attempts=attempts)

    def read_text(self, address: Address) -> str:
        """A short text that was stored. Raises BadInput where the object is missing or its content is not UTF-8,
        RunFailed where the store does not answer."""
        try:
            return self.read_bytes(address).decode()
        except UnicodeDecodeError as error:
            raise BadInput(f"{address} is not text.") from error

    def read_bytes(self, address: Address, most: int = 0) -> bytes:
        """An object's content, in memory. Raises BadInput where it is missing, or has more than `most` bytes (0: any
        number); RunFailed where the store does not answer."""

        def read() -> bytes:
            response = self._client.get_object(address.bucket, address.key)
            try:
                length = str(response.headers.get("Content-Length") or "")
                if most and length.isdecimal() and int(length) > most:
                    raise BadInput(f"{address} has more than {most >> 20} MiB.")
                return response.read()
            finally:
                response.close()
                response.release_conn()

        return self._persistently(read, address)

    def remove(self, address: Address) -> None:
        """Remove one object; one that does not exist is not an error."""
        self._persistently(lambda: self._client.remove_object(address.bucket, address.key), address, writing=True)

    def upload_folder(self, folder: Path, address: Address) -> None:
        """Store every file below `folder` under `address`, several at once."""
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        keys = ["/".join(filter(None, (address.key, path.relative_to(folder).as_posix()))) for path in files]
        with ThreadPoolExecutor(PARALLEL) as pool:
            for _ in tracked(
                pool.map(self.upload_file, files, [Address(address.bucket, key) for key in keys]),
                f"upload to {address}",
                len(files),
            ):
                pass

    def make_bucket(self, name: str) -> bool:
        """Make a bucket, and say whether it was missing. Raises BadInput for a name that somebody else has (Amazon's
        are global)."""
        from minio.error import S3Error

        address = Address(name, "")
        if self._persistently(lambda: self._client.bucket_exists(name), address):
            return False

        def make() -> bool:
            try:
                self._client.make_bucket(name)
            except S3Error as error:
                if error.code == "BucketAlreadyOwnedByYou":  # another was faster, or an answer was lost
                    return False
                if error.code == "BucketAlreadyExists":
                    raise BadInput(
                        f"The bucket {name!r} in the store at {self.endpoint} belongs to somebody else; choose "
                        "another name."
                    ) from error
                raise
            return True

        return self._persistently(make, address)

    def lifecycle(self, name: str) -> list[Rule] | None:
        """The lifecycle rules of a bucket; None where the store offers none."""

        from vqi.storage.s3_answers import not_offered

        def read_rules() -> list[Rule] | None:
            with not_offered():
                config = self._client.get_bucket_lifecycle(name)
                return list(config.rules) if config else []
            return None

        return self._persistently(read_rules, Address(name, ""))

    def set_lifecycle(self, name: str, rules: list[Rule]) -> bool:
        """Replace the lifecycle rules of a bucket; whether the store took them."""
        from minio.lifecycleconfig import LifecycleConfig

        from vqi.storage.s3_answers import not_offered

        def write_rules() -> bool:
            with not_offered():
                if rules:
                    self._client.set_bucket_lifecycle(name, LifecycleConfig(rules))
                else:
                    self._client.delete_bucket_lifecycle(name)
                return True
            return False

        return self._persistently(write_rules, Address(name, ""))

    def _bring(self, address: Address, item: StoredObject, destination: Path, sha256: str | None) -> None:
        part = destination.with_name(
            f"{destination.name}.{hashlib.sha256(f'{address}/{item.etag}/{item.size}'.encode()).hexdigest()[:16]}.part"
        )
        try:
            self._persistently(
                lambda: self._continue(address, item, part),
                address,
                progress=lambda: part.stat().st_size if part.exists() else 0,
            )
            if sha256 and (actual := sha256_of(part)) != sha256:
                part.unlink()
                raise BadInput(
                    f"{address} has SHA-256 {actual}, not {sha256} as asked for; the object was changed or the "
                    "checksum is of another file."
                )
            os.replace(part, destination)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise RunFailed(
                f"{address} cannot be written to {destination.parent} ({error.strerror}); make room there or name "
                "another folder."
            ) from error

    def _continue(self, address: Address, item: StoredObject, part: Path) -> None:
        """Fetch what is missing of `part` and verify the whole."""
        from vqi.storage.s3_answers import Incomplete

        have = part.stat().st_size if part.exists() else 0
        if have > item.size or (have and not item.etag):
            part.unlink()
            have = 0
        headers: dict[str, str | list[str] | tuple[str]] = {}
        if have < item.size or item.size == 0:
            if have:
                headers = {"Range": f"bytes={have}-", "If-Match": f'"{item.etag}"'}
            response = self._client.get_object(address.bucket, address.key, request_headers=headers)
            try:
                # Some servers answer a range with status 200, some ignore If-Match: the headers say what was really
                # sent.
                if (response.headers.get("ETag") or "").strip('"') != item.etag:
                    part.unlink(missing_ok=True)
                    raise BadInput(f"{address} was replaced while it was being downloaded; start again.")
                continued = (
                    (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-") if have else False
                )
                with open(part, "ab" if continued else "wb") as file:
                    # As it is stored: an object with a Content-Encoding would be unpacked on the way.
                    for chunk in response.stream(CHUNK_SIZE, decode_content=False):
                        file.write(chunk)
            finally:
                response.close()
                response.release_conn()
            received = {name.lower(): value for name, value in response.headers.items()}
        else:
            received = {}
        size = part.stat().st_size
        if size < item.size:
            raise Incomplete(f"{size} of {item.size} bytes arrived")
        if size > item.size or not _checksums_agree(part, item.etag, received):
            part.unlink()
            raise Incomplete("its content does not have the checksum the store gives for it")

    def _check_bucket(self, address: Address) -> None:
        def bucket_exists() -> bool:
            try:
                return self._client.bucket_exists(address.bucket)
            except Exception as error:
                self._ask_why(error, address)
                raise

        if not self._persistently(bucket_exists, address):
            raise BadInput(f"There is no bucket {address.bucket!r} in the store at {self.endpoint}.")

    def _persistently(
        self,
        operation: Callable[[], T],
        address: Address,
        *,
        writing: bool = False,
        progress: Callable[[], int] = lambda: 0,
        attempts: int = 0,
    ) -> T:
        """The result of `operation`, tried again after what may pass; anything else becomes one sentence.

        An attempt that brought `progress` further than ever counts as the first of its row: a large file may break off
        any number of times.
        """
        from vqi.storage.s3_answers import ERRORS, Incomplete, explained, may_pass, reason_of, requested_pause

        attempt, furthest, limit = 0, progress(), attempts or ATTEMPTS
        while True:
            try:
                return operation()
            except (*ERRORS, Incomplete) as error:
                if not may_pass(error):
                    raise explained(error, address.bucket, str(address), self.endpoint, writing) from error
                attempt = 1 if progress() > furthest else attempt + 1
                furthest = max(furthest, progress())
                if attempt >= limit:
                    verb = "be stored in" if writing else "be had from"
                    raise RunFailed(
                        f"{address} cannot {verb} the store at {self.endpoint} after {limit} attempts "
                        f"({reason_of(error)})."
                    ) from error
                pause = min(self._pause * 2 ** (attempt - 1), LONGEST_PAUSE) * random.uniform(0.5, 1.0)
                pause = max(pause, requested_pause(error))
                if attempt > 4:
                    self._report_waiting(reason_of(error))
                time.sleep(pause)

    def _report_waiting(self, reason: str) -> None:
        """Tell a person what takes so long, for all threads once in a while."""
        with self._report_lock:
            if time.monotonic() - self._last_report < 30:
                return
            self._last_report = time.monotonic()
        log.warning(f"The store at {self.endpoint} does not do what it should ({reason}); it is tried again.")


def download_file(address: str, destination: Path, sha256: str | None = None) -> Path:
    """Bring the object s3://... to `destination` from the store that the environment names (see
    ObjectStore.download_file)."""
    return ObjectStore.from_environment().download_file(Address.parse(address), destination, sha256)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other threads and processes from writing the same part file; the lock ends with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _difference(entry: tuple[StoredObject, str] | None, size: int, checksum: str, etag: str, file: Path) -> str:
    """What distinguishes an object from the file that was sent, "" where nothing does. `checksum` and `etag`: what it
    should have."""
    if entry is None:
        return "it is not there"
    stored, checked = entry
    if stored.size != size or checked not in ("", checksum):
        return (
            f"{stored.size} bytes with the checksum {checked[:12] or 'none'} are there, not {size} with {checksum[:12]}"
        )
    # Some keep no metadata of what came in parts, and give the MD5 of the whole for an ETag.
    if etag and stored.etag not in ("", etag) and stored.etag != _md5_of(file):
        return "its ETag is not the one that was given for it"
    return ""


def _md5_of(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _checksums_agree(part: Path, etag: str, received: Mapping[str, str]) -> bool:
    """Whether a file has the checksums that came with it; an ETag is an MD5 unless the object came in parts or is
    encrypted by the store."""
    if expected := received.get("x-amz-meta-sha256"):
        return sha256_of(part) == expected
    encrypted = any(key.startswith("x-amz-server-side-encryption") for key in received)
    if encrypted or not re.fullmatch(r"[0-9a-f]{32}", etag):
        return True
    return _md5_of(part) == etag
