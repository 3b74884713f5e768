"""`vqi serve`: bundles behind HTTP and gRPC."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqi.platform.errors import BadInput
from vqi.platform.logs import logger
from vqi_pipelines.commands.bundle_address import source_of
from vqi_pipelines.commands.predictor_options import Backend, BatchSize, Device, Threads, Tracking

if TYPE_CHECKING:
    from vqi.deployment.bench_record import BenchRecord
    from vqi.deployment.serving.bundle_sources import BundleSource
    from vqi.deployment.serving.served_models import PredictorOptions

log = logger(__name__)

TOKEN = "VQI_SERVE_TOKEN"


def serve(
    bundles: Annotated[
        list[str],
        typer.Argument(
            help="Bundles: folders, s3://bucket/prefix, or models:/NAME@champion; NAME=BUNDLE serves one under a name "
            "of its own."
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0: every network of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of HTTP; 0: any that is free.")] = 8080,
    grpc_port: Annotated[
        int | None, typer.Option(help="Port of gRPC (Open Inference Protocol v2); none: no gRPC.")
    ] = None,
    backend: Backend = "auto",
    device: Device = "cpu",
    threads: Threads = 0,
    batch: BatchSize = 0,
    bench: Annotated[
        Path | None,
        typer.Option(help="File of vqi bench --save: serve by its best backend, threads and batch."),
    ] = None,
    batch_wait: Annotated[
        float, typer.Option(help="Longest wait of a photograph for others that are being decoded, milliseconds.")
    ] = 5.0,
    queue: Annotated[
        int, typer.Option(help="Most photographs accepted and not answered yet; further ones get status 503.")
    ] = 128,
    body: Annotated[int, typer.Option(help="Largest request, MiB.")] = 64,
    photographs: Annotated[int, typer.Option(help="Most photographs in one request.")] = 64,
    answer_seconds: Annotated[float, typer.Option(help="Longest time until an answer; then status 504.")] = 60.0,
    reload_seconds: Annotated[
        float, typer.Option(help="How often folders, stores and aliases are looked at for new versions; 0: never.")
    ] = 5.0,
    tracking: Tracking = "",
    decisions: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps decisions, marks and marked photographs; without: in memory alone."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Host that photographs may be fetched from by address (repeat it); without: none."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help=f"File with the token that requests must carry; or the variable {TOKEN}.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="Certificate chain in PEM, for TLS.")] = None,
    key: Annotated[Path | None, typer.Option(help="Key of the certificate in PEM.")] = None,
) -> None:
    """Serve bundles: POST /predict, PaddleX's /image-anomaly-detection, the Open Inference Protocol v2 over REST and
    gRPC, /metrics, /docs.

    A folder that holds another version later is loaded beside the one that is served, and takes over without a failed
    request. SIGTERM answers what was accepted, then ends.
    """
    from vqi.deployment.serving.run import Certificate
    from vqi.deployment.serving.run import serve as run_server
    from vqi.deployment.serving.served_models import PredictorOptions
    from vqi.deployment.serving.settings import ServeSettings
    from vqi.platform.settings import read_settings

    values = {
        "host": host,
        "port": port,
        "grpc_port": grpc_port,
        "body_mib": body,
        "photographs": photographs,
        "queue": queue,
        "batch_wait_ms": batch_wait,
        "answer_seconds": answer_seconds,
        "reload_seconds": reload_seconds,
        "decisions": "" if decisions is None else os.path.abspath(decisions),
        "allow_hosts": tuple(allow_host or ()),
    }
    settings = read_settings(ServeSettings, values)
    if (certificate is None) != (key is None):
        raise BadInput("TLS needs both --certificate and --key.")
    token = _token(token_file)
    options = PredictorOptions(backend, device, threads, batch)
    measured = _measured(bench, options) if bench else None
    with tempfile.TemporaryDirectory(prefix="vqi-serve-") as cache:
        sources = named_sources(bundles, Path(cache), tracking)
        if measured:
            best = measured.best
            options = PredictorOptions(best.backend, measured.device, best.threads, best.batch)
            _report_setting(measured, sources, bench)

        def report(http: int, grpc: int | None) -> None:
            scheme = "https" if certificate else "http"
            also = f"; gRPC at {host}:{grpc}" if grpc else ""
            address = f"{scheme}://{host}:{http}"
            typer.echo(f"Serving {', '.join(sources)} at {address} (a page; /docs describes the rest){also}")
            sys.stdout.flush()
            if host not in ("127.0.0.1", "::1", "localhost") and not token:
                log.warning(f"Everybody who reaches {host} may ask; set {TOKEN} or --token-file for a token.")

        run_server(
            sources,
            options,
            settings,
            token,
            Certificate(certificate, key) if certificate and key else None,
            report,
        )


def _measured(file: Path, options: PredictorOptions) -> BenchRecord:
    """What `vqi bench` measured. Raises BadInput where it cannot be read, and where options say how to run as well."""
    from vqi.deployment.bench_record import read_bench
    from vqi.deployment.serving.served_models import PredictorOptions

    if options != PredictorOptions():
        raise BadInput("--bench excludes --backend, --device, --threads and --batch; leave it or them out.")
    return read_bench(file)


def _report_setting(record: BenchRecord, sources: Mapping[str, BundleSource], file: Path | None) -> None:
    """Say what a measurement chose, and where it was made with another bundle or on another machine."""
    from vqi.deployment.bench_record import machine_in_use
    from vqi.deployment.bundle import bundle_version

    best = record.best
    threads = f"{best.threads} threads" if best.threads else "its own threads"
    log.info(f"By {file}: backend {best.backend}, {threads}, batches of at most {best.batch}")
    if record.version not in {bundle_version(source.refresh()) for source in sources.values()}:
        log.warning(f"{file} was measured with version {record.version} of {record.bundle}, which is not served here.")
    machine = machine_in_use()
    if (machine.processor, machine.cpus) != (record.machine.processor, record.machine.cpus):
        log.warning(
            f"{file} was measured on {record.machine.cpus} processors ({record.machine.processor}), and these are "
            f"{machine.cpus} ({machine.processor}); measure here (vqi bench --save)."
        )


def named_sources(bundles: list[str], cache: Path, tracking: str = "") -> dict[str, BundleSource]:
    """Bundles by the name each is served under: that of NAME=BUNDLE, or the category's. What comes from a store, or
    from the registry of the MLflow at `tracking`, is kept in `cache`.

    Raises BadInput where a name cannot stand in an address or stands twice, and where an unnamed bundle cannot be used.
    """
    import re

    from vqi.deployment.bundle import read_sidecar

    sources: dict[str, BundleSource] = {}
    for number, text in enumerate(bundles):
        name, equals, rest = text.partition("=")
        named = bool(equals) and "/" not in name
        address = rest if named else text
        source = source_of(address, cache / str(number), tracking)
        if not named:
            name = read_sidecar(source.refresh()).name
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
            raise BadInput(f"The name {name!r} cannot stand in an address; serve the bundle as NAME={address}.")
        if name in sources:
            raise BadInput(f"Two bundles are called {name!r}; serve one of them as NAME={address}.")
        sources[name] = source
    return sources


def _token(file: Path | None) -> str:
    if file is None:
        return os.environ.get(TOKEN, "")
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"The token cannot be read from {file} ({getattr(error, 'strerror', None) or error})."
        ) from error
    if not token:
        raise BadInput(f"{file} holds no token.")
    return token
