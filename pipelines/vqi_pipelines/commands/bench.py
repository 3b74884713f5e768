"""`vqi bench`: how fast a bundle is on this machine, and which setting to serve it with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqi_pipelines.commands.predictor_options import Device

if TYPE_CHECKING:
    from vqi.deployment.bench_record import BenchRecord


def bench(
    bundle: Annotated[Path, typer.Argument(help="The bundle folder that a run exported.")],
    backend: Annotated[
        list[str] | None,
        typer.Option(help="Backend to measure (repeat it); without: all inside that can run here."),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(help="Number of threads (repeat it; 0: the backend's choice); without: 1, and one a processor."),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(help="Photographs at once (repeat it); without: 1, and as many as fit the bundle's bound."),
    ] = None,
    device: Device = "cpu",
    seconds: Annotated[float, typer.Option(help="Time for each setting; all take turns.")] = 2.0,
    latency: Annotated[
        float | None,
        typer.Option(help="Most milliseconds that the best setting's 95th percentile may have; without: no bound."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="File for the measurement; vqi serve --bench takes the best setting from it.")
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")
    ] = False,
) -> None:
    """Measure a bundle's graph on this machine, by backend, threads and batch: percentiles of a batch's time, images a
    second, and processor time.

    Every setting is warmed up and takes turns with the others; input are the bundle's golden photographs. The best
    setting has the most images a second.
    """
    import json

    from vqi.deployment.bench import measure
    from vqi.deployment.bench_record import machine_in_use, write_bench
    from vqi.platform.files import check_writable
    from vqi.platform.printing import printable

    if save:
        check_writable(save)
    record = measure(
        bundle,
        machine_in_use(),
        backends=backend or (),
        threads=threads or (),
        batches=batch or (),
        device=device,
        seconds=seconds,
        latency_ms=latency,
    )
    if save:
        write_bench(save, record)
    if json_output:
        typer.echo(json.dumps(record.values(), indent=2, allow_nan=False))
        return
    typer.echo(table(record))
    if save:
        typer.echo(f"Saved: {printable(str(save))} (vqi serve {printable(str(bundle))} --bench {printable(str(save))})")


def table(record: BenchRecord) -> str:
    """A measurement for a terminal: a line a setting, `*` at the best."""
    machine = record.machine
    lines = [
        f"{record.bundle} {record.version} on {machine.processor}, {machine.cpus} processors, load {machine.load:g}",
        "",
        f"  {'backend':16} {'precision':9} {'threads':>7} {'batch':>5} {'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9} "
        f"{'images/s':>9} {'CPU ms/image':>12} {'batches':>8}",
    ]
    for timing in record.timings:
        setting, mark = timing.setting, "*" if timing.setting == record.best else " "
        lines.append(
            f"{mark} {setting.backend:16} {timing.precision:9} {setting.threads or 'own':>7} {setting.batch:>5} "
            f"{timing.p50_ms:>9.2f} {timing.p95_ms:>9.2f} {timing.p99_ms:>9.2f} {timing.images_per_second:>9.1f} "
            f"{timing.processor_ms:>12.2f} {timing.batches:>8}"
        )
    lines += [
        f"  {one.setting.backend}, {one.setting.threads} threads, batch {one.setting.batch}: not timed. {one.reason}"
        for one in record.not_timed
    ]
    return "\n".join(lines)
