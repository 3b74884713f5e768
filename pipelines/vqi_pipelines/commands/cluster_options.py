"""The options that every command that speaks to a KFP server takes, and what they make."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vqi_pipelines.cluster.kubernetes_access import Kubernetes
    from vqi_pipelines.cluster.logs import Logs
    from vqi_pipelines.cluster.server import Server

Host = Annotated[
    str,
    typer.Option("--host", envvar="KF_PIPELINES_ENDPOINT", help="KFP's address, such as http://localhost:8080; else the cluster of KUBECONFIG."),
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", envvar="KF_PIPELINES_NAMESPACE", help="Namespace that runs happen in.")]
ServerNamespace = Annotated[
    str, typer.Option("--server-namespace", help="Namespace KFP itself is in, where there is no --host; kubeflow or --namespace.")
]
TokenFile = Annotated[
    str,
    typer.Option("--token-file", envvar="KF_PIPELINES_SA_TOKEN_PATH", help="File of a service account's token, read anew for each request."),
]
CaCert = Annotated[str, typer.Option("--ca-cert", help="File of the authorities that KFP's certificate comes from; else SSL_CERT_FILE.")]
KubeContext = Annotated[str, typer.Option("--kube-context", help="Context of the kubeconfig; else its current one.")]
Experiment = Annotated[
    str,
    typer.Option(
        "--experiment",
        envvar=["KF_PIPELINES_OVERRIDE_EXPERIMENT_NAME", "KF_PIPELINES_DEFAULT_EXPERIMENT_NAME"],
        help="KFP experiment that the run is listed under.",
    ),
]
PackageFile = Annotated[Path | None, typer.Option("--package", help="Compiled package; else the checkout's, or compiled now.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]


def say(line: str) -> None:
    """Tell a person something; standard output is for results."""
    print(line, file=sys.stderr, flush=True)


def reach(
    host: str = "", namespace: str = "", server_namespace: str = "", token_file: str = "", ca_cert: str = "", kube_context: str = ""
) -> tuple[Server, Kubernetes | None]:
    """The KFP server, and the cluster it runs in where that may be looked at."""
    from vqi_pipelines.cluster.kubernetes_access import Kubernetes
    from vqi_pipelines.cluster.server import Access, connect

    return connect(Access(host, namespace, server_namespace, token_file, ca_cert, kube_context), say), Kubernetes.reach(kube_context)


def logs(server: Server, kubernetes: Kubernetes | None) -> Logs:
    """Where the logs of the server's runs may be had from."""
    from vqi_pipelines.cluster.logs import Logs

    return Logs(server, kubernetes, server.run_namespace(kubernetes))
