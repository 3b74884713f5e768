"""The S3 client that the environment asks for: endpoint, credentials, certificates, and how buckets are addressed.

Only what other S3 tools read too, and nothing particular to one server.
"""

from __future__ import annotations

import configparser
import io
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.credentials import AWSConfigProvider, IamAwsProvider, Provider, StaticProvider

from vqi.platform.errors import BadInput
from vqi.platform.proxies import Proxy, proxy_of

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
# What one call hands to a socket.
CHUNK_SIZE = 1 << 16
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MINIO_ENDPOINT", "MLFLOW_S3_ENDPOINT_URL")
ADDRESSING_STYLE = "AWS_S3_ADDRESSING_STYLE"


class SteadyPool(urllib3.PoolManager):
    """Sends a large body in chunks: a socket's patience is for all that one call sends, so a part sent whole had to be
    through within CONNECT_SECONDS, and over a slow line none ever was. Each request goes through the proxy that the
    environment names for its address."""

    def __init__(self, environ: Mapping[str, str], **options: Any) -> None:
        super().__init__(**options)
        self._environ, self._options = environ, options
        self._proxies: dict[Proxy, urllib3.ProxyManager] = {}
        self._lock = threading.Lock()

    def urlopen(self, method: str, url: str, redirect: bool = True, **options: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        if isinstance(body := options.get("body"), bytes) and len(body) > CHUNK_SIZE:
            options["body"] = io.BytesIO(body)
        if proxy := proxy_of(url, self._environ):
            return self._through(proxy).urlopen(method, url, redirect=redirect, **options)
        return super().urlopen(method, url, redirect=redirect, **options)

    def clear(self) -> None:
        super().clear()
        for pool in getattr(self, "_proxies", {}).values():
            pool.clear()

    def _through(self, proxy: Proxy) -> urllib3.ProxyManager:
        with self._lock:  # threads share the client
            if proxy not in self._proxies:
                self._proxies[proxy] = proxy.manager(**self._options)
            return self._proxies[proxy]


def client_from_environment(environ: Mapping[str, str], connections: int, patience: float = 0.0) -> tuple[Minio, str]:
    """A client that keeps up to `connections` open, and the endpoint it speaks to. It tries nothing again by itself.

    `patience` are the seconds for a connection and for an answer, 0 the usual ones. Raises BadInput where something is
    missing or malformed.
    """
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    endpoint = next((environ[key] for key in ENDPOINTS if environ.get(key)), None)
    if endpoint is None and not region:
        raise BadInput(
            f"No object store is named; set {ENDPOINTS[0]} (for example http://minio:9000), or AWS_REGION for Amazon "
            "S3."
        )
    endpoint = endpoint or f"https://s3.{region}.amazonaws.com"
    parts = urlsplit(endpoint)
    shown = _without_password(endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.username or parts.query:
        raise BadInput(f"The object store's address {shown!r} must read http://host:port or https://host:port.")
    if parts.path.strip("/"):
        raise BadInput(
            f"The object store's address {shown!r} must read http://host:port or https://host:port, without the path "
            f"{parts.path!r}: "
            "an S3 store is spoken to at the root of its host."
        )
    style = environ.get(ADDRESSING_STYLE) or "auto"
    if style not in ("auto", "path", "virtual"):
        raise BadInput(
            f"{ADDRESSING_STYLE} is {style!r}; it must be path (host/bucket), virtual (bucket.host) or auto."
        )
    pool = SteadyPool(
        environ,
        num_pools=4,
        maxsize=connections,
        blocksize=CHUNK_SIZE,
        retries=False,
        timeout=urllib3.Timeout(connect=patience or CONNECT_SECONDS, read=patience or READ_SECONDS),
        cert_reqs="CERT_REQUIRED",
        ca_certs=_certificates(environ),
    )
    try:
        proxy_of(endpoint, environ)  # one that cannot be used is an error here, not one of the first request
        client = Minio(
            parts.netloc,
            secure=parts.scheme == "https",
            region=region or "us-east-1",
            credentials=_credentials(environ),
            http_client=pool,
        )
    except ValueError as error:
        raise BadInput(f"The object store's address {shown!r} cannot be used ({error}).") from error
    if style == "virtual":
        client.enable_virtual_style_endpoint()
    elif style == "path":
        client.disable_virtual_style_endpoint()
    return client, endpoint


def _credentials(environ: Mapping[str, str]) -> Provider:
    for key, secret in (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY")):
        if environ.get(key) and environ.get(secret):
            return StaticProvider(
                environ[key],
                environ[secret],
                (environ.get("AWS_SESSION_TOKEN") or None) if key.startswith("AWS") else None,
            )
        if environ.get(key) or environ.get(secret):
            raise BadInput(f"Only one of {key} and {secret} is set; the object store needs both.")
    if any(
        environ.get(f"AWS_{way}")
        for way in ("WEB_IDENTITY_TOKEN_FILE", "CONTAINER_CREDENTIALS_FULL_URI", "CONTAINER_CREDENTIALS_RELATIVE_URI")
    ):
        retries = urllib3.Retry(total=5, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504))
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        return IamAwsProvider(
            http_client=SteadyPool(environ, retries=retries, timeout=timeout, ca_certs=_certificates(environ))
        )
    stored = AWSConfigProvider(environ.get("AWS_SHARED_CREDENTIALS_FILE"), environ.get("AWS_PROFILE"))
    try:
        stored.retrieve()
    except (ValueError, configparser.Error) as error:
        raise BadInput(
            "No credentials for the object store are set; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from error
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
