"""Any S3 store: addresses, listing, downloads that survive a bad network, uploads.

Endpoint, credentials and certificates come from the environment that other S3 tools read. Nothing here is particular to one server.
"""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.files import sha256_of
from vqi.platform.progress import tracked

if TYPE_CHECKING:
    from minio import Minio
    from minio.credentials import Provider
    from minio.lifecycleconfig import Rule

T = TypeVar("T")

ATTEMPTS = 8
PARALLEL = 8
CONNECT_SECONDS, READ_SECONDS = 10, 60
# What a broken connection loses at most.
PIECE = 1 << 16
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MINIO_ENDPOINT", "MLFLOW_S3_ENDPOINT_URL")
_WRONG_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "InvalidTokenId", "TokenRefreshRequired"}
# What servers answer to a call they do not offer or take for another (rules for a bucket: for making it), or to a rule they do not know.
_NOT_OFFERED = {
    "NotImplemented",
    "MethodNotAllowed",
    "MalformedXML",
    "InvalidRequest",
    "InvalidArgument",
    "BucketAlreadyExists",
    "BucketAlreadyOwnedByYou",
}
_PASSING = {"SlowDown", "SlowDownRead", "SlowDownWrite", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "TooManyRequests"}


@dataclass(frozen=True)
class Address:
    """A place in an object store: s3://bucket/key. The key may be empty (the whole bucket)."""

    bucket: str
    key: str

    @staticmethod
    def parse(text: str) -> Address:
        """Raises BadInput where `text` is no s3:// address with a bucket name as S3 allows them."""
        match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", text, re.DOTALL)
        if not match:
            raise BadInput(f"{text!r} is no address in an object store; write s3://bucket/prefix.")
        return Address(match[1], (match[2] or "").strip("/"))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class StoredObject:
    """An object as the store lists it: its key, its size in bytes and its ETag without quotes ("" where there is none)."""

    key: str
    size: int
    etag: str


class _Incomplete(Exception):
    """A download that ended early or does not have the checksum the store gave for it: worth another attempt."""


class ObjectStore:
    """A client of one S3 store; safe to use from several threads. Every request is tried ATTEMPTS times with growing pauses."""

    def __init__(self, client: Minio, endpoint: str, pause: float = 0.2) -> None:
        self._client, self.endpoint, self._pause = client, endpoint, pause

    @staticmethod
    def from_environment(environ: Mapping[str, str] = os.environ) -> ObjectStore:
        """The store that the environment names.

        Endpoint: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, MINIO_ENDPOINT or MLFLOW_S3_ENDPOINT_URL; without one, Amazon's of AWS_REGION.
        Credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN; MINIO_ACCESS_KEY, MINIO_SECRET_KEY; the AWS credentials file;
        a web identity or container role. Certificates: AWS_CA_BUNDLE or SSL_CERT_FILE. Raises BadInput where one is missing or malformed.
        """
        import urllib3
        from minio import Minio

        region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
        named = next((environ[key] for key in _ENDPOINTS if environ.get(key)), None)
        if named is None and not region:
            raise BadInput(f"No object store is named; set {_ENDPOINTS[0]} (for example http://minio:9000), or AWS_REGION for Amazon S3.")
        endpoint = named or f"https://s3.{region}.amazonaws.com"
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.username or parts.path.strip("/") or parts.query:
            raise BadInput(f"The object store's address {_without_password(endpoint)!r} must read http://host:port or https://host:port.")
        pool = urllib3.PoolManager(
            num_pools=4,
            maxsize=PARALLEL,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            cert_reqs="CERT_REQUIRED",
            ca_certs=_certificates(environ),
        )
        try:
            client = Minio(
                parts.netloc, secure=parts.scheme == "https", region=region or "us-east-1", credentials=_credentials(environ), http_client=pool
            )
        except ValueError as error:
            raise BadInput(f"The object store's address {endpoint!r} cannot be used ({error}).") from error
        return ObjectStore(client, endpoint)

    def objects(self, address: Address) -> list[StoredObject]:
        """The objects under `address` as a folder (its key itself is not among them), in the order of their keys; folder markers are left out."""
        prefix = f"{address.key}/" if address.key else ""

        def listed() -> list[StoredObject]:
            found = self._client.list_objects(address.bucket, prefix=prefix, recursive=True)
            return [
                StoredObject(item.object_name, item.size or 0, (item.etag or "").strip('"'))
                for item in found
                if item.object_name and not item.object_name.endswith("/")
            ]

        return sorted(self._persistently(listed, address), key=lambda item: item.key)

    def find(self, address: Address) -> StoredObject | None:
        """The one object at `address`, or None."""
        from minio.error import S3Error

        def looked_up() -> StoredObject | None:
            try:
                item = self._client.stat_object(address.bucket, address.key)
            except S3Error as error:
                if error.code in ("NoSuchKey", "NoSuchObject", "NotFound"):
                    return None
                raise
            return StoredObject(address.key, item.size or 0, (item.etag or "").strip('"'))

        return self._persistently(looked_up, address) if address.key else None

    def download_file(self, address: str | Address, destination: Path, sha256: str | None = None) -> Path:
        """Bring one object to `destination`, complete or not at all, and return that path.

        An interrupted download goes on where it stopped, from a part file beside `destination`. The content is compared with the store's
        own checksum and with `sha256` where it is given. Raises BadInput for a missing object, wrong credentials or another `sha256`.
        """
        place = Address.parse(address) if isinstance(address, str) else address
        destination = Path(destination)
        if destination.is_file() and sha256 and sha256_of(destination) == sha256:
            return destination
        item = self.find(place)
        if item is None:
            self._check_bucket(place)
            raise BadInput(f"There is no object {place} in the store at {self.endpoint}.")
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(destination.parent):
            self._bring(place, item, destination, sha256)
        return destination

    def download_prefix(self, address: Address, cache: Path) -> dict[str, Path]:
        """Bring every object under `address` into `cache`, several at once, and return the files by their names below the prefix.

        What is in the cache with the same ETag is not fetched again, so an interrupted call goes on where it stopped. Keys never become paths.
        Raises BadInput where there is nothing under `address`.
        """
        items = self.objects(address)
        if not items:
            self._check_bucket(address)
            raise BadInput(f"There are no objects under {address} in the store at {self.endpoint}.")
        with ThreadPoolExecutor(PARALLEL) as pool:
            futures = {item.key: pool.submit(self.cached, Address(address.bucket, item.key), item, cache) for item in items}
            try:
                start = len(address.key) + 1 if address.key else 0
                return {key[start:]: future.result() for key, future in tracked(futures.items(), f"download of {address}", len(futures))}
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def cached(self, address: Address, item: StoredObject, cache: Path) -> Path:
        """The file of an object in `cache`, fetched where this version of it is not there; other versions of it are removed."""
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
        """Store a file, with its SHA-256 in the object's metadata for those who download it."""
        checksum = sha256_of(file)
        self._persistently(lambda: self._client.fput_object(address.bucket, address.key, str(file), metadata={"sha256": checksum}), address)

    def remove(self, address: Address) -> None:
        """Remove one object; one that is not there is no error."""
        self._persistently(lambda: self._client.remove_object(address.bucket, address.key), address)

    def upload_folder(self, folder: Path, address: Address) -> None:
        """Store every file below `folder` under `address`, several at once."""
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        keys = ["/".join(filter(None, (address.key, path.relative_to(folder).as_posix()))) for path in files]
        with ThreadPoolExecutor(PARALLEL) as pool:
            for _ in tracked(pool.map(self.upload_file, files, [Address(address.bucket, key) for key in keys]), f"upload to {address}", len(files)):
                pass

    def make_bucket(self, name: str) -> bool:
        """Make a bucket, and say whether it was missing. Raises BadInput for a name that somebody else has (Amazon's are global)."""
        from minio.error import S3Error

        address = Address(name, "")
        if self._persistently(lambda: self._client.bucket_exists(name), address):
            return False

        def made() -> bool:
            try:
                self._client.make_bucket(name)
            except S3Error as error:
                if error.code == "BucketAlreadyOwnedByYou":  # another was faster, or an answer was lost
                    return False
                if error.code == "BucketAlreadyExists":
                    raise BadInput(f"The bucket {name!r} in the store at {self.endpoint} belongs to somebody else; choose another name.") from error
                raise
            return True

        return self._persistently(made, address)

    def lifecycle(self, name: str) -> list[Rule] | None:
        """The lifecycle rules of a bucket; None where the store offers none."""

        def asked() -> list[Rule] | None:
            with _not_offered():
                found = self._client.get_bucket_lifecycle(name)
                return list(found.rules) if found else []
            return None

        return self._persistently(asked, Address(name, ""))

    def set_lifecycle(self, name: str, rules: list[Rule]) -> bool:
        """Replace the lifecycle rules of a bucket; whether the store took them."""
        from minio.lifecycleconfig import LifecycleConfig

        def told() -> bool:
            with _not_offered():
                if rules:
                    self._client.set_bucket_lifecycle(name, LifecycleConfig(rules))
                else:
                    self._client.delete_bucket_lifecycle(name)
                return True
            return False

        return self._persistently(told, Address(name, ""))

    def _bring(self, address: Address, item: StoredObject, destination: Path, sha256: str | None) -> None:
        part = destination.with_name(f"{destination.name}.{hashlib.sha256(f'{address}/{item.etag}/{item.size}'.encode()).hexdigest()[:16]}.part")
        self._persistently(lambda: self._continue(address, item, part), address)
        if sha256 and (found := sha256_of(part)) != sha256:
            part.unlink()
            raise BadInput(f"{address} has SHA-256 {found}, not {sha256} as asked for; the object was changed or the checksum is of another file.")
        os.replace(part, destination)

    def _continue(self, address: Address, item: StoredObject, part: Path) -> None:
        """Fetch what is missing of `part` and verify the whole."""
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
                # Some servers answer a range with status 200, some ignore If-Match: the headers say what was really sent.
                if (response.headers.get("ETag") or "").strip('"') != item.etag:
                    part.unlink(missing_ok=True)
                    raise BadInput(f"{address} was replaced while it was being downloaded; start again.")
                continued = (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-") if have else False
                with open(part, "ab" if continued else "wb") as file:
                    shutil.copyfileobj(response, file, PIECE)
            finally:
                response.close()
                response.release_conn()
            received = {name.lower(): value for name, value in response.headers.items()}
        else:
            received = {}
        size = part.stat().st_size
        if size < item.size:
            raise _Incomplete(f"{size} of {item.size} bytes arrived")
        if size > item.size or not _checksums_agree(part, item.etag, received):
            part.unlink()
            raise _Incomplete("its content does not have the checksum the store gives for it")

    def _check_bucket(self, address: Address) -> None:
        if not self._persistently(lambda: self._client.bucket_exists(address.bucket), address):
            raise BadInput(f"There is no bucket {address.bucket!r} in the store at {self.endpoint}.")

    def _persistently(self, operation: Callable[[], T], address: Address) -> T:
        """The result of `operation`, tried again after what may pass; anything else becomes one sentence."""
        import urllib3
        from minio.error import MinioException

        for attempt in range(ATTEMPTS):
            try:
                return operation()
            except (MinioException, urllib3.exceptions.HTTPError, _Incomplete, ConnectionError, TimeoutError, ValueError) as error:
                status, code = _status_and_code(error)
                if not _may_pass(error, status, code):
                    raise self._explained(error, status, code, address) from error
                if attempt == ATTEMPTS - 1:
                    reason = f"status {status}" if status else str(error) if isinstance(error, _Incomplete) else type(error).__name__
                    raise RunFailed(f"{address} cannot be had from the store at {self.endpoint} after {ATTEMPTS} attempts ({reason}).") from error
                time.sleep(self._pause * min(2**attempt, 40) * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable")

    def _explained(self, error: Exception, status: int, code: str, address: Address) -> Exception:
        import urllib3

        if code in _WRONG_CREDENTIALS:
            return BadInput(f"The store at {self.endpoint} refuses the credentials ({code}); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
        if status == 403 or code == "AccessDenied":
            return BadInput(f"The store at {self.endpoint} denies access to {address}; check the credentials and what they may read.")
        if code == "NoSuchBucket":
            return BadInput(f"There is no bucket {address.bucket!r} in the store at {self.endpoint}.")
        if status == 404:
            return BadInput(f"There is no object {address} in the store at {self.endpoint}.")
        if status == 412:
            return BadInput(f"{address} was replaced while it was being downloaded; start again.")
        if isinstance(error, urllib3.exceptions.SSLError):
            return RunFailed(f"The certificate of the store at {self.endpoint} is not trusted; name its authority's file in AWS_CA_BUNDLE.")
        return RunFailed(f"The store at {self.endpoint} cannot give {address} ({code or status or error}).")


def download_file(address: str, destination: Path, sha256: str | None = None) -> Path:
    """Bring the object s3://... to `destination` from the store that the environment names (see ObjectStore.download_file)."""
    return ObjectStore.from_environment().download_file(Address.parse(address), destination, sha256)


def _credentials(environ: Mapping[str, str]) -> Provider:
    from minio.credentials import AWSConfigProvider, IamAwsProvider, StaticProvider

    for key, secret in (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY")):
        if environ.get(key) and environ.get(secret):
            return StaticProvider(environ[key], environ[secret], environ.get("AWS_SESSION_TOKEN") if key.startswith("AWS") else None)
        if environ.get(key) or environ.get(secret):
            raise BadInput(f"Only one of {key} and {secret} is set; the object store needs both.")
    if any(environ.get(f"AWS_{way}") for way in ("WEB_IDENTITY_TOKEN_FILE", "CONTAINER_CREDENTIALS_FULL_URI", "CONTAINER_CREDENTIALS_RELATIVE_URI")):
        return IamAwsProvider()
    stored = AWSConfigProvider(environ.get("AWS_SHARED_CREDENTIALS_FILE"), environ.get("AWS_PROFILE"))
    try:
        stored.retrieve()
    except (ValueError, configparser.Error) as error:
        raise BadInput("No credentials for the object store are set; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.") from error
    return stored


def _certificates(environ: Mapping[str, str]) -> str:
    """The file of trusted authorities."""
    for key in ("AWS_CA_BUNDLE", "SSL_CERT_FILE"):
        if environ.get(key):
            if not Path(environ[key]).is_file():
                raise BadInput(f"{key} names the file {environ[key]}, which does not exist.")
            return environ[key]
    import certifi

    return certifi.where()


def _without_password(endpoint: str) -> str:
    """An address as it may be shown: some write user:password@host, which the client would refuse anyway."""
    return re.sub(r"//[^/@]*@", "//...@", endpoint)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other threads and processes from writing the same part file; the lock ends with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _not_offered() -> Iterator[None]:
    """End the block quietly where the store does not know the call or a rule in it; some answer 501, some without a code that a client can read."""
    from minio.error import MinioException

    try:
        yield
    except MinioException as error:
        status, code = _status_and_code(error)
        if status not in (405, 501) and code not in _NOT_OFFERED:
            raise


def _may_pass(error: Exception, status: int, code: str) -> bool:
    import urllib3

    if isinstance(error, urllib3.exceptions.SSLError):
        return "CERTIFICATE_VERIFY_FAILED" not in str(error)
    if isinstance(error, urllib3.exceptions.HTTPError | _Incomplete | ConnectionError | TimeoutError):
        return True
    return status in (408, 429) or status >= 500 or code in _PASSING


def _status_and_code(error: Exception) -> tuple[int, str]:
    """HTTP status (0 where there was no answer) and S3 error code ("" where there was none) of what the client raised.

    The client parses `application/xml` alone; servers that answer in `text/xml` have their code in the text of the error.
    """
    from minio.error import S3Error, ServerError

    if isinstance(error, S3Error):
        return error.response.status if error.response is not None else 0, error.code or ""
    if isinstance(error, ServerError):
        return error.status_code, ""
    text = str(error)
    status, code = re.search(r"Response code: (\d{3})", text), re.search(r"<Code>(\w+)</Code>", text)
    return int(status[1]) if status else 0, code[1] if code else ""


def _checksums_agree(part: Path, etag: str, received: Mapping[str, str]) -> bool:
    """Whether a file has the checksums that came with it; an ETag is an MD5 unless the object came in parts or is encrypted by the store."""
    if asked := received.get("x-amz-meta-sha256"):
        return sha256_of(part) == asked
    encrypted = any(key.startswith("x-amz-server-side-encryption") for key in received)
    if encrypted or not re.fullmatch(r"[0-9a-f]{32}", etag):
        return True
    with open(part, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == etag
