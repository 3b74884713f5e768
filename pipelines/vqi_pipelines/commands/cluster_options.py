"""The options that every command that speaks to a KFP server takes, and what they make."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from vqi.platform.logs import logger

if TYPE_CHECKING:
    from vqi_pipelines.cluster.kubernetes_access import Kubernetes
    from vqi_pipelines.cluster.logs import Logs
    from vqi_pipelines.cluster.server import Server

log = logger(__name__)

Experiment = Annotated[
    str,
    typer.Option(
        "--experiment",
        envvar=["KF_PIPELINES_OVERRIDE_EXPERIMENT_NAME", "KF_PIPELINES_DEFAULT_EXPERIMENT_NAME"],
        help="KFP experiment that the run is listed under.",
    ),
]
PackageFile = Annotated[
    Path | None, typer.Option("--package", help="Compiled package; else the checkout's, or compiled now.")
]
Compact = Annotated[
    bool, typer.Option("--compact", help="Run several steps in each task: a small record, and less overhead.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]


def report(line: str) -> None:
    """Log a line for the person at the terminal; standard output is for results."""
    log.info(line)


@dataclass(frozen=True)
class Connection:
    """How a command gets to KFP and to the cluster that it runs in. Each field is an option of every command that
    `takes_connection`."""

    host: Annotated[
        str,
        typer.Option(
            "--host",
            envvar="KF_PIPELINES_ENDPOINT",
            help="KFP's address, such as http://localhost:8080; else the cluster of KUBECONFIG.",
        ),
    ] = ""
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", envvar="KF_PIPELINES_NAMESPACE", help="Namespace that runs happen in.")
    ] = ""
    server_namespace: Annotated[
        str,
        typer.Option(
            "--server-namespace", help="Namespace KFP itself is in, where there is no --host; kubeflow or --namespace."
        ),
    ] = ""
    token_file: Annotated[
        str,
        typer.Option(
            "--token-file",
            envvar="KF_PIPELINES_SA_TOKEN_PATH",
            help="File of a service account's token, read anew for each request.",
        ),
    ] = ""
    ca_cert: Annotated[
        str,
        typer.Option(
            "--ca-cert", help="File of the authorities that KFP's certificate comes from; else SSL_CERT_FILE."
        ),
    ] = ""
    kube_context: Annotated[
        str, typer.Option("--kube-context", help="Context of the kubeconfig; else its current one.")
    ] = ""

    def reach(self) -> tuple[Server, Kubernetes | None]:
        """The KFP server, and the cluster it runs in where that may be inspected."""
        from vqi_pipelines.cluster.kubernetes_access import Kubernetes
        from vqi_pipelines.cluster.server import Access, connect

        access = Access(
            self.host, self.namespace, self.server_namespace, self.token_file, self.ca_cert, self.kube_context
        )
        return connect(access, report), Kubernetes.reach(self.kube_context)


def takes_connection(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a Connection to a command, whose parameter `connection` gets what they make."""
    signature = inspect.signature(command, eval_str=True)
    hints = get_type_hints(Connection, include_extras=True)
    names = [item.name for item in fields(Connection)]

    @functools.wraps(command)
    def connected(**values: Any) -> None:
        command(connection=Connection(**{name: values.pop(name) for name in names}), **values)

    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [each.replace(kind=keyword) for each in signature.parameters.values() if each.name != "connection"]
    added = [inspect.Parameter(name, keyword, default="", annotation=hints[name]) for name in names]
    connected.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    return connected


def logs(server: Server, kubernetes: Kubernetes | None) -> Logs:
    """Where the logs of the server's runs may be had from."""
    from vqi_pipelines.cluster.logs import Logs

    return Logs(server, kubernetes, server.run_namespace(kubernetes))
