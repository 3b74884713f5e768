"""`vqi watch`: a bundle beside a line."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vqi.platform.logs import logger
from vqi_pipelines.commands.bundle_address import source_of
from vqi_pipelines.commands.predictor_options import Backend, BatchSize, BundleAddress, Device, Threads, Tracking

log = logger(__name__)


def watch(
    bundle: BundleAddress,
    source: Annotated[
        str,
        typer.Argument(
            help="A folder that photographs appear in; camera:0, rtsp://HOST/PATH, http://HOST/PATH; a video file."
        ),
    ],
    sink: Annotated[
        list[str] | None,
        typer.Option(
            help="Where decisions go (repeat it): a folder, - (standard output), http(s)://HOST/PATH (signed with "
            "VQI_WATCH_SECRET), mqtt(s)://HOST/TOPIC; without: standard output."
        ),
    ] = None,
    state: Annotated[
        Path, typer.Option(help="Folder that keeps what was decided and not delivered, one a watch.")
    ] = Path("watch-state"),
    done: Annotated[
        Path | None, typer.Option(help="Folder that decided photographs are moved to; without: they stay.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="End when the folder holds nothing that is not decided.")
    ] = False,
    settle: Annotated[
        float, typer.Option(help="How long a file must not change before it is whole, seconds; 0: only renamed in.")
    ] = 0.5,
    every: Annotated[
        float, typer.Option(help="Time between frames of a camera or video, seconds; 0: every frame.")
    ] = 1.0,
    trigger: Annotated[
        bool, typer.Option("--trigger", help="Take a camera's frame for each line on standard input, not by time.")
    ] = False,
    pictures: Annotated[
        str, typer.Option(help="Pictures in the folders of sinks: of defects, all or none.")
    ] = "defects",
    rotate: Annotated[int, typer.Option(help="Size that a sink's decisions.jsonl is put aside at, MiB.")] = 64,
    buffer: Annotated[
        int, typer.Option(help="Most decisions kept for sinks that are away; then photographs wait.")
    ] = 10_000,
    backend: Backend = "auto",
    device: Device = "cpu",
    threads: Threads = 0,
    batch: BatchSize = 0,
    false_reject_rate: Annotated[
        float | None,
        typer.Option(help="Share of good parts that may be rejected, in place of the bundle's."),
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Image threshold, set by hand.")] = None,
    implausible: Annotated[
        str, typer.Option(help="A photograph that cannot be one of the set: refuse (decision implausible) or score.")
    ] = "refuse",
    reload_seconds: Annotated[
        float, typer.Option(help="How often the bundle is looked at for a new version, seconds; 0: never.")
    ] = 5.0,
    tracking: Tracking = "",
    metrics_port: Annotated[
        int | None, typer.Option(help="Port that Prometheus reads at; 0: any; none: not read.")
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(help="Address of that port; 0.0.0.0: every network of this machine.")
    ] = "127.0.0.1",
) -> None:
    """Decide on photographs as they appear, and hand each decision to every sink, also after a sink was away or this
    process was killed. Another version of the bundle takes over between two batches.

    SIGTERM finishes the photographs in hand and delivers what it can; exit code 0. Exit code 1 where the source ended
    and a sink has not every decision.
    """
    from vqi.deployment.predictor import Predictor
    from vqi.deployment.watching.following import FollowedBundle
    from vqi.deployment.watching.run import stopped_by_signals
    from vqi.deployment.watching.run import watch as run_watch
    from vqi.deployment.watching.settings import WatchSettings
    from vqi.platform.printing import printable
    from vqi.platform.settings import read_settings

    values = {
        "settle_seconds": settle,
        "done": "" if done is None else os.path.abspath(done),
        "once": once,
        "every_seconds": every,
        "trigger": trigger,
        "pictures": pictures,
        "rotate_mib": rotate,
        "buffer": buffer,
        "reload_seconds": reload_seconds,
        "metrics_port": metrics_port,
        "metrics_host": metrics_host,
    }
    settings = read_settings(WatchSettings, values)

    def open_predictor(folder: Path) -> Predictor:
        return Predictor(
            folder,
            backend,
            device,
            threads,
            batch,
            false_reject_rate=false_reject_rate,
            threshold=threshold,
            implausible=implausible,  # type: ignore[arg-type]  # checked by the predictor
        )

    with stopped_by_signals() as stop, tempfile.TemporaryDirectory(prefix="vqi-watch-") as cache:
        followed = FollowedBundle(source_of(bundle, Path(cache), tracking), open_predictor, settings.reload_seconds)

        def report(label: str, sinks: Sequence[str], port: int | None) -> None:
            name = followed.newest.predictor.sidecar.name
            where = ", ".join("standard output" if name == "-" else printable(name) for name in sinks)
            also = f"; metrics at http://{metrics_host}:{port}/metrics" if port else ""
            log.info(f"Watching {printable(label)} with {name}; decisions go to {where}{also}.")

        count = run_watch(
            followed,
            source,
            sink or ["-"],
            Path(os.path.abspath(state)),
            settings,
            stop,
            report,
        )
    log.info(f"Decisions: {count}.")
    sys.stdout.flush()
