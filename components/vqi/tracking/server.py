"""Whether an MLflow server answers at an address, asked without MLflow: the first step's image has none, and needs none
for this."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from vqi.platform.errors import BadInput, RunFailed
from vqi.tracking.address_name import address_name, leave_empty

TRIES, PAUSE_SECONDS, ANSWER_SECONDS = 2, 3.0, 5.0
_LONGEST_REASON, _LONGEST_ADDRESS = 54, 64


def check_server(
    address: str, experiment: str, environ: Mapping[str, str] = os.environ, pause: float = PAUSE_SECONDS
) -> None:
    """See that an MLflow server answers at an http(s) `address` within some 20 s; nothing is done for other addresses.
    Nothing is written there.

    Proxies, certificates and credentials are those that MLflow's own client would use. A server that refuses the
    request (401, 403) passes: MLflow's client may have other ways to sign in. Raises RunFailed where nothing answers,
    BadInput where what answers is not an MLflow server, or where the experiment was deleted. The sentences have fewer
    than 200 characters: a cluster's pages cut longer ones off.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https"):
        return
    netloc = parts.netloc.rpartition("@")[2]
    shown = f"{parts.scheme}://{netloc}"[:_LONGEST_ADDRESS]
    path = f"{parts.path.rstrip('/')}/api/2.0/mlflow/experiments/get-by-name"
    url = urlunsplit((parts.scheme, netloc, path, f"experiment_name={quote(experiment, safe='')}", ""))
    reason = ""
    for number in range(TRIES):
        time.sleep(pause if number else 0)
        status, body, reason = _answer(url, parts.username or "", parts.password or "", environ)
        if status and status not in (502, 503, 504):
            return _judge(status, body, shown, experiment)
    raise RunFailed(
        f"MLflow at {shown} does not answer ({reason}); see that it runs; check {address_name()} and proxies."
    )


def _judge(status: int, body: bytes, shown: str, experiment: str) -> None:
    if status not in (200, 404):
        return
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not {"experiment", "error_code"} & set(answer):
        raise BadInput(
            f"What answers at {shown} (status {status}) is not an MLflow server; set {address_name()} to one's "
            f"address{leave_empty()}."
        )
    if answer.get("experiment", {}).get("lifecycle_stage") == "deleted":
        raise BadInput(
            f"The MLflow experiment {experiment[:60]!r} was deleted; restore it, or set tracking.experiment to "
            "another name."
        )


def _answer(url: str, user: str, password: str, environ: Mapping[str, str]) -> tuple[int, bytes, str]:
    """Status (0 for none), body, and a few words on what went wrong."""
    import urllib3

    from vqi.platform.proxies import proxy_of

    options: dict[str, Any] = {
        "retries": False,
        "timeout": urllib3.Timeout(connect=ANSWER_SECONDS, read=ANSWER_SECONDS),
        **_certificates(environ),
    }
    proxy = proxy_of(url, environ)
    pool = proxy.manager(**options) if proxy else urllib3.PoolManager(**options)
    try:
        answer = pool.request("GET", url, headers=_credentials(user, password, environ), redirect=False)
        return answer.status, answer.data, f"status {answer.status}"
    except urllib3.exceptions.ProxyError as error:
        return 0, b"", f"proxy {proxy.url if proxy else ''}: {_reason(error.original_error)}"[:_LONGEST_REASON]
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        return 0, b"", _reason(error)
    finally:
        pool.clear()


def _reason(error: Exception) -> str:
    """What happened, without the objects that urllib3 writes into its messages."""
    text = (
        re.sub(r"^\w+\(.*?\): |Failed to establish a new connection: |\[Errno -?\d+\] ", "", str(error))
        or type(error).__name__
    )
    return (text.splitlines() or [""])[0][:_LONGEST_REASON]


def _credentials(user: str, password: str, environ: Mapping[str, str]) -> dict[str, str]:
    import urllib3

    user, password = (
        environ.get("MLFLOW_TRACKING_USERNAME") or user,
        environ.get("MLFLOW_TRACKING_PASSWORD") or password,
    )
    if user:
        return dict(urllib3.make_headers(basic_auth=f"{user}:{password}"))
    token = environ.get("MLFLOW_TRACKING_TOKEN")
    return {"authorization": f"Bearer {token}"} if token else {}


def _certificates(environ: Mapping[str, str]) -> dict[str, Any]:
    """Trust and client certificate, from the variables that MLflow and requests read."""
    options: dict[str, Any] = {}
    if certificate := environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        options["cert_file"] = certificate
    if environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        return options | {"cert_reqs": "CERT_NONE", "assert_hostname": False}
    names = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    trusted = next((environ[name] for name in names if environ.get(name)), "")
    if trusted:
        return options | {"ca_cert_dir" if Path(trusted).is_dir() else "ca_certs": trusted}
    import certifi

    return options | {"ca_certs": certifi.where()}
