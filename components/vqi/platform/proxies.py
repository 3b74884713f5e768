"""The proxy that the environment names for an address, with the meaning that the standard library and requests give to
its variables.

`http_proxy`, `https_proxy`, `all_proxy`, `no_proxy` and the same in capitals; the small ones win, and an empty one
means none. `no_proxy` lists, by commas: host names, which stand for all names below them, with a leading dot or
without; HOST:PORT; addresses; networks (10.0.0.0/8); `*` for all.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import urllib3

from vqi.platform.errors import BadInput

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """A proxy's address without credentials, the variable that names it, and the headers that it is sent, never
    shown."""

    url: str
    variable: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)

    def manager(self, **options: Any) -> urllib3.ProxyManager:
        """A pool of connections through the proxy; `options` are those of urllib3.PoolManager."""
        return urllib3.ProxyManager(self.url, proxy_headers=dict(self.headers), **options)


def proxy_of(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy that requests for `url` go through, None for none. Raises BadInput where the environment names one that
    cannot be used."""
    parts = urlsplit(url)
    variable = next(
        (name for name in (_variable(f"{parts.scheme}_proxy", environ), _variable("all_proxy", environ)) if name), ""
    )
    if (
        not variable
        or not parts.hostname
        or _bypassed(parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme, 0), environ)
    ):
        return None
    text = environ[variable].strip()
    text = text if "://" in text else f"http://{text}"
    try:
        proxy = urlsplit(text)
        usable = proxy.scheme in DEFAULT_PORTS and bool(proxy.hostname) and (proxy.port is None or proxy.port > 0)
    except ValueError:  # a port that is not a number
        usable = False
    if not usable:
        shown = re.sub(r"//.*@", "//...@", text)
        raise BadInput(
            f"{variable} is {shown!r}; it must read http://HOST:PORT, with USER:PASSWORD@ before the host where the "
            "proxy asks for them."
        )
    credentials, _, address = proxy.netloc.rpartition("@")
    headers = urllib3.make_headers(proxy_basic_auth=unquote(credentials)) if credentials else {}
    return Proxy(f"{proxy.scheme}://{address}", variable, headers)


def _variable(name: str, environ: Mapping[str, str]) -> str:
    """The variable that counts, "" where it is not set or empty."""
    variable = name if name in environ else name.upper()
    return variable if environ.get(variable, "").strip() else ""


def _bypassed(host: str, port: int, environ: Mapping[str, str]) -> bool:
    host = host.lower().rstrip(".")
    address = _address(host)
    if address and address.is_link_local:
        return True  # a node's own metadata service: no proxy can reach it
    variable = _variable("no_proxy", environ)
    entries = environ[variable].lower().split(",") if variable else []
    return any(_covers(entry.strip(), host, port, address) for entry in entries)


def _covers(entry: str, host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    if entry == "*":
        return True
    if address and "/" in entry:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    if with_port := re.fullmatch(r"(\[.*\]|[^:]*):(\d+)", entry):
        entry = with_port[1]
        if int(with_port[2]) != port:
            return False
    entry = entry.strip("[]").lstrip(".").rstrip(".")
    if address:
        return address == _address(entry)
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
