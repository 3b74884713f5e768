"""A Kubeflow Pipelines server as it is reached: host and credentials the way kfp.Client takes them, calls that survive
a bad network, one sentence for whatever goes wrong."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.printing import printable

if TYPE_CHECKING:
    from kfp_server_api import ApiClient, ApiException

    from vqi_pipelines.cluster.kubernetes_access import Kubernetes

T = TypeVar("T")

ATTEMPTS = 8
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0
CONNECT_SECONDS, READ_SECONDS = 10, 60
# What a gateway says of a server that is away for a moment. 500 is also what KFP says of some mistakes: tried again,
# but not for long.
PASSING, PERHAPS_PASSING = (429, 502, 503, 504), (500,)
SERVICE = "ml-pipeline"
KFP_NAMESPACES = ("kubeflow", "vqi")
SERVICE_ACCOUNT_OF_RUNS = "pipeline-runner"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PROJECTED_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")


@dataclass(frozen=True)
class Access:
    """Where the server is and who asks. What is empty comes from the environment, as kfp.Client's own defaults do.

    `namespace` is where runs happen; `server_namespace` is where KFP itself is, which matters only where no host is
    given.
    """

    host: str = ""
    namespace: str = ""
    server_namespace: str = ""
    token_file: str = ""
    ca_cert: str = ""
    kube_context: str = ""

    def with_environment(self, environ: Mapping[str, str] = os.environ) -> Access:
        """This access with what the environment says where it is empty."""
        token_file = self.token_file or environ.get("KF_PIPELINES_SA_TOKEN_PATH", "")
        if not token_file and PROJECTED_TOKEN.is_file():
            token_file = str(PROJECTED_TOKEN)
        return Access(
            host=self.host or environ.get("KF_PIPELINES_ENDPOINT", ""),
            namespace=self.namespace or environ.get("KF_PIPELINES_NAMESPACE", ""),
            server_namespace=self.server_namespace,
            token_file=token_file,
            ca_cert=self.ca_cert or environ.get("SSL_CERT_FILE", "") or environ.get("REQUESTS_CA_BUNDLE", ""),
            kube_context=self.kube_context,
        )


@dataclass(frozen=True)
class Health:
    """What a server says of itself. `version` is "" where it does not say one."""

    version: str
    multi_user: bool


class UnknownObject(BadInput):
    """The server has nothing of that name or id."""


class Server:
    """A KFP API server; `runs`, `pipelines`, `uploads`, `experiments` and `schedules` are the services of
    kfp_server_api, used through `call`."""

    def __init__(
        self,
        client: ApiClient,
        host: str,
        ui: str,
        namespace: str,
        home: str = "",
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        import kfp_server_api as api

        # Repeating is done here, where it is known whether a request may be made twice.
        client.rest_client.pool_manager.connection_pool_kw["retries"] = False
        self.client, self.host, self.ui, self.requested_namespace, self.home, self._report = (
            client,
            host,
            ui,
            namespace,
            home,
            report,
        )
        self.runs, self.pipelines = api.RunServiceApi(client), api.PipelineServiceApi(client)
        self.uploads, self.experiments = api.PipelineUploadServiceApi(client), api.ExperimentServiceApi(client)
        self.schedules = api.RecurringRunServiceApi(client)
        self._met = False
        self._health: Health | None = None

    def health(self) -> Health:
        """The server's version and mode, read once. Raises BadInput where what answers is not a KFP 2 server."""
        if self._health is None:
            try:
                answer = self.call(self._raw, "/apis/v2beta1/healthz")
            except UnknownObject as error:
                raise BadInput(
                    f"What answers at {self.host} does not speak KFP's v2beta1 API: an older KFP (2.x is needed), or "
                    "something else; check --host."
                ) from error
            value = _json(answer)
            if not isinstance(value, dict) or not {"multi_user", "tag_name", "commit_sha"} & set(value):
                raise self._no_kfp(
                    "it sent " + (f"a page that begins {printable(answer[:40])!r}" if answer else "nothing")
                )
            tag = str(value.get("tag_name") or "")
            self._health = Health("" if tag == "unknown" else tag, bool(value.get("multi_user")))
        return self._health

    @property
    def namespace(self) -> str:
        """The namespace that calls must name: in multi-user mode the team's, and none where KFP serves one."""
        if not self.health().multi_user:
            return ""
        if not self.requested_namespace:
            raise BadInput(
                f"The KFP at {self.host} serves several teams; name yours with --namespace (or KF_PIPELINES_NAMESPACE)."
            )
        return self.requested_namespace

    def run_namespace(self, kubernetes: Kubernetes | None) -> str:
        """The namespace that pods of runs are in: the team's, or the one that KFP starts them in; "" where that cannot
        be known."""
        from vqi_pipelines.cluster.kubernetes_access import NotAllowed

        if self.health().multi_user or self.requested_namespace:
            return self.namespace or self.requested_namespace
        # KFP's server may start the runs elsewhere than it is itself: where their service account is.
        if kubernetes is not None:
            for name in dict.fromkeys((self.home or KFP_NAMESPACES[0], *KFP_NAMESPACES)):
                with contextlib.suppress(NotAllowed):
                    if kubernetes.has_service_account(name, SERVICE_ACCOUNT_OF_RUNS):
                        return name
        return self.home

    def get_text(self, path: str) -> str:
        """What a plain GET of `path` sends, for the few addresses that kfp_server_api does not know."""
        return self.call(self._raw, path)

    def call(
        self, operation: Callable[..., T], *arguments: Any, made: Callable[[], T | None] | None = None, **options: Any
    ) -> T:
        """Call a service's method, and repeat the call after errors that may pass.

        A request that makes something takes `made`, which searches for it: a lost answer must not make it twice. Raises
        BadInput for what the user can mend and RunFailed for a server that stays away.
        """
        import kfp_server_api as api
        import urllib3

        options.setdefault("_request_timeout", (CONNECT_SECONDS, READ_SECONDS))
        for attempt in range(ATTEMPTS):
            try:
                if attempt and made and (existing := made()) is not None:
                    return existing
                answer = operation(*arguments, **options)
                self._check_content()
                self._met = True
                return answer
            except api.ApiException as error:
                last = attempt == (2 if error.status in PERHAPS_PASSING else ATTEMPTS - 1)
                if error.status not in PASSING + PERHAPS_PASSING or last:
                    raise self._explain(error) from error
                reason = f"status {error.status}"
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if attempt == ATTEMPTS - 1 or _permanent(error):
                    raise self._unreachable(error) from error
                reason = type(getattr(error, "reason", None) or error).__name__
            except AttributeError as error:
                # The client stumbles over its own exception where TLS fails: that one has no body.
                if isinstance(error.__context__, api.ApiException):
                    raise self._explain(error.__context__) from error
                raise
            pause = min(PAUSE_SECONDS * 2**attempt, LONGEST_PAUSE_SECONDS) * random.uniform(0.5, 1.0)
            if attempt >= 2:
                self._report(f"{self.host} did not answer ({reason}); asking again in {pause:.0f} s ...")
            time.sleep(pause)
        raise AssertionError("unreachable")

    def find(self, operation: Callable[..., T], *arguments: Any, **options: Any) -> T | None:
        """The answer of `call`, None where the server has no such thing."""
        try:
            return self.call(operation, *arguments, **options)
        except UnknownObject:
            return None

    def run_link(self, run_id: str) -> str:
        """Where a person looks at a run; "" where the UI's address is not known."""
        return f"{self.ui}/#/runs/details/{run_id}" if self.ui else ""

    def _raw(self, path: str, **options: Any) -> str:
        response = self.client.call_api(
            path, "GET", _preload_content=False, _return_http_data_only=True, auth_settings=["Bearer"], **options
        )
        return response.data.decode("utf-8", "replace")

    def _check_content(self) -> None:
        """A login page with status 200 would become an empty object."""
        response: Any = getattr(self.client, "last_response", None)
        kind = (response.getheader("content-type") if hasattr(response, "getheader") else "") or ""
        if "html" in kind:
            raise self._no_kfp("it sent a web page")

    def _no_kfp(self, what: str) -> BadInput:
        return BadInput(
            f"What answers at {self.host} is not a KFP API server ({what}); check --host, and the credentials if that "
            "is a login page."
        )

    def _unreachable(self, error: Exception) -> BadInput | RunFailed:
        reason = getattr(error, "reason", None) or error
        if "CERTIFICATE_VERIFY_FAILED" in str(error) or "certificate verify failed" in str(error):
            return BadInput(
                f"The certificate of {self.host} is not trusted; name its authority's file with --ca-cert (or "
                "SSL_CERT_FILE)."
            )
        if "SSL" in type(reason).__name__ or "ssl" in str(reason).lower():
            return BadInput(
                f"{self.host} does not speak TLS as asked ({_first_line(reason)}); write http:// or https:// as the "
                "server does."
            )
        kind = RunFailed if self._met else BadInput
        if "NameResolution" in type(reason).__name__:
            return kind(
                f"There is no host {urlsplit(self.host).hostname!r} (its name cannot be resolved); check --host (or "
                "KF_PIPELINES_ENDPOINT)."
            )
        after = "" if _permanent(error) else f" after {ATTEMPTS} attempts"
        return kind(
            f"No KFP server answers at {self.host}{after} ({_first_line(reason)}); check --host (or "
            "KF_PIPELINES_ENDPOINT) and the network."
        )

    def _explain(self, error: ApiException) -> BadInput | RunFailed:
        reason = read_reason(error)
        if error.status == 0:
            return self._unreachable(error)
        if error.status == 401:
            return BadInput(
                f"{self.host} refuses the credentials (401): the token is missing, has expired or is for another "
                "audience; "
                "make a new one and name its file with --token-file (or KF_PIPELINES_SA_TOKEN_PATH)."
            )
        if error.status == 403:
            return BadInput(
                f"{self.host} does not allow this to whoever asks (403{reason}); check --namespace and the account's "
                "rights there."
            )
        if error.status == 404:
            return UnknownObject(
                f"{self.host} has no such thing (404{reason}); check the name, --namespace and --host."
            )
        if error.status in PASSING:
            return RunFailed(
                f"{self.host} stays unavailable (status {error.status} {ATTEMPTS} times); try again when it is well."
            )
        if error.status in PERHAPS_PASSING:
            return RunFailed(f"{self.host} failed over the request (status {error.status}{reason}).")
        return BadInput(f"{self.host} refuses the request ({error.status}{reason}).")


def connect(
    access: Access, report: Callable[[str], None] = lambda line: None, environ: Mapping[str, str] = os.environ
) -> Server:
    """The server that the options and the environment name; no request is made yet.

    Without a host: inside a cluster its Service, else through the API server of the kubeconfig, as kfp.Client does.
    Raises BadInput where no server is named, or a file that is named is not there.
    """
    import kfp
    from kfp import client as kfp_client

    access = access.with_environment(environ)
    for option, file in (("--token-file", access.token_file), ("--ca-cert", access.ca_cert)):
        if file and not Path(file).is_file():
            raise BadInput(f"{option} names the file {file}, which does not exist.")
    host, server_namespace = access.host, access.server_namespace or "kubeflow"
    if host and not re.match(r"https?://[^/]", host):
        if "://" in host:
            raise BadInput(f"--host is {printable(host)!r}; write it as http://host:port or https://host.")
        host = f"https://{host}"
    if not host:
        host, server_namespace = _without_host(access)

    class Client(kfp.Client):
        def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
            # The constructor would ask, and print a traceback for each of five attempts.
            import kfp_server_api as api

            return api.V2beta1GetHealthzResponse(multi_user=False)

    token = environ.get("VQI_KFP_TOKEN", "")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        client = Client(
            host=host or None,
            namespace=server_namespace,
            existing_token=token or None,
            cookies=environ.get("VQI_KFP_COOKIE") or None,
            ssl_ca_cert=access.ca_cert or None,
            kube_context=access.kube_context or None,
            credentials=kfp_client.ServiceAccountTokenVolumeCredentials(access.token_file)
            if access.token_file and not token
            else None,
        )
    api_client = client._run_api.api_client
    for name, _, value in (
        line.partition(":") for line in environ.get("VQI_KFP_HEADERS", "").splitlines() if line.strip()
    ):
        api_client.set_default_header(name.strip(), value.strip())
    address = api_client.configuration.host.rstrip("/")
    api_client.configuration.host = address
    ui = environ.get("KF_PIPELINES_UI_ENDPOINT", "") or access.host
    if ui and "://" not in ui:
        ui = f"https://{ui}"
    home = "" if access.host else server_namespace
    return Server(
        api_client, _hide_password(address), ui.rstrip("/"), access.namespace or _own_namespace(), home, report
    )


def read_reason(error: ApiException) -> str:
    """What a server gave as its reason: ": text", one line, fit for a terminal; "" where it gave none."""
    value = _json(error.body or "")
    text = (
        str(value.get("message") or value.get("error") or value.get("error_message") or "")
        if isinstance(value, dict)
        else ""
    )
    text = " ".join(text.split())
    return f": {printable(text[:300]).rstrip('.')}" if text else ""


def _without_host(access: Access) -> tuple[str, str]:
    """The host and namespace of the KFP in this cluster, or "" and the namespace in that of the kubeconfig."""
    from vqi_pipelines.cluster.kubernetes_access import Kubernetes

    wanted = (
        [access.server_namespace]
        if access.server_namespace
        else [name for name in (access.namespace, *KFP_NAMESPACES) if name]
    )
    if (SERVICE_ACCOUNT / "token").is_file() and not access.kube_context:
        return f"http://{SERVICE}.{access.server_namespace or 'kubeflow'}.svc.cluster.local:8888", wanted[0]
    reached = Kubernetes.reach(access.kube_context)
    if reached is None:
        raise BadInput(
            "No KFP server is named; give --host (or KF_PIPELINES_ENDPOINT), or a KUBECONFIG of the cluster it runs "
            "in, "
            f"or open a way to it: kubectl port-forward -n kubeflow svc/{SERVICE}-ui 8080:80 and --host http://localhost:8080."
        )
    for name in dict.fromkeys(wanted):
        if reached.has_service(name, SERVICE):
            return "", name
    raise BadInput(
        f"The cluster of the kubeconfig has no Service {SERVICE} in {' or '.join(dict.fromkeys(wanted))}; "
        "name the namespace of KFP with --server-namespace, or its address with --host."
    )


def _own_namespace() -> str:
    """The namespace of the pod this runs in, "" outside a cluster."""
    file = SERVICE_ACCOUNT / "namespace"
    return file.read_text().strip() if file.is_file() else ""


def _permanent(error: Exception) -> bool:
    text = str(error)
    return (
        "CERTIFICATE_VERIFY_FAILED" in text
        or "WRONG_VERSION_NUMBER" in text
        or "record layer failure" in text
        or "No scheme" in text
    )


def _hide_password(address: str) -> str:
    """An address as it may be shown: without a password."""
    return re.sub(r"//[^/@]*@", "//...@", address)


def _first_line(error: object) -> str:
    text = str(error).strip().split("\n")[0]
    text = re.sub(r"^.*?object at 0x[0-9a-f]+>: |^\S*Connection\w*\(.*?\): ", "", text)
    return printable(text[:160]).rstrip(".") or type(error).__name__


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
