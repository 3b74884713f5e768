"""A photograph from an address in a request: from hosts that were allowed alone, and never from a private network.

Whoever may send requests could otherwise make this server ask anything that only it can reach. Every address on the
way, also after redirects, is of an allowed host; its name is resolved once, and the connection goes to what was looked
at. A private address is reached only where the list of hosts holds that very address.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Sequence
from urllib.parse import urljoin, urlsplit

import urllib3

from vqi.deployment.serving.refusals import Refusal, TooLarge

REDIRECTS = 3
CHUNK = 1 << 16


def is_address(text: str) -> bool:
    """Whether a text is an address and not Base64."""
    return text[:8].lower().startswith(("http://", "https://"))


def fetch_photograph(address: str, hosts: Sequence[str], largest: int, seconds: float) -> bytes:
    """The bytes at an address. Raises Refusal where it may not be asked, has no photograph or does not answer within
    `seconds`, TooLarge where it holds more than `largest` bytes."""
    if not hosts:
        raise Refusal("Photographs are not fetched from addresses here (--allow-host); send the file in Base64.")
    latest = time.monotonic() + seconds
    for _ in range(REDIRECTS + 1):
        response = _request(address, hosts, latest)
        try:
            if response.status in (301, 302, 303, 307, 308):
                address = urljoin(address, response.headers.get("Location", ""))
                continue
            if response.status != 200:
                raise Refusal(f"The address answered with status {response.status} and no photograph.")
            return _read(response, largest, latest)
        finally:
            response.close()
    raise Refusal(f"The address leads on more than {REDIRECTS} times.")


def _request(address: str, hosts: Sequence[str], latest: float) -> urllib3.BaseHTTPResponse:
    try:
        parts = urlsplit(address)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise Refusal("The address cannot be read.") from error
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.password:
        raise Refusal("The address must begin with https:// or http://, without a name or a password.")
    if host not in {name.lower() for name in hosts}:
        raise Refusal(f"Photographs are not fetched from {host!r}; allowed: {', '.join(hosts)}.")
    ip = _public_address(host)
    timeout = urllib3.Timeout(total=max(0.1, latest - time.monotonic()))
    pool: urllib3.HTTPConnectionPool
    if parts.scheme == "https":
        pool = urllib3.HTTPSConnectionPool(
            ip, port or 443, server_hostname=host, assert_hostname=host, ssl_context=ssl.create_default_context()
        )
    else:
        pool = urllib3.HTTPConnectionPool(ip, port or 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    named = f"[{host}]" if ":" in host else host
    try:
        return pool.urlopen(
            "GET",
            target,
            headers={"Host": f"{named}:{port}" if port else named, "Accept": "image/*"},
            retries=False,
            redirect=False,
            preload_content=False,
            timeout=timeout,
        )
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Refusal(f"{host} does not answer ({type(error).__name__}).") from error


def _public_address(host: str) -> str:
    """The address that a host's name stands for. Raises Refusal where it is not a public one."""
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        literal = None
    if literal:  # the list of hosts holds it
        return host
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Refusal(f"The host {host} is not known.") from error
    for answer in answers:
        ip = ipaddress.ip_address(str(answer[4][0]).partition("%")[0])
        mapped = getattr(ip, "ipv4_mapped", None) or ip
        if not mapped.is_global or mapped.is_multicast:
            raise Refusal(
                f"The host {host} lies in a private network, which photographs are not fetched from; allow its very "
                "address (--allow-host 10.0.0.5)."
            )
    return str(answers[0][4][0])


def _read(response: urllib3.BaseHTTPResponse, largest: int, latest: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        for part in response.stream(CHUNK, decode_content=False):
            size += len(part)
            if size > largest:
                raise TooLarge(f"The photograph at the address has more than {largest >> 20} MiB.")
            if time.monotonic() > latest:
                raise Refusal("The photograph at the address did not arrive in time.")
            parts.append(part)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Refusal(f"The photograph at the address did not arrive whole ({type(error).__name__}).") from error
    return b"".join(parts)
