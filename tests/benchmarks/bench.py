"""One table of ratios: ours, anomalib where an interpreter that has it is named, and the limit where one is known.

    python tests/benchmarks/bench.py [--anomalib-python PYTHON] [--only fit bundle check demo training] [--quick]
        [--out build/bench] [--compare docs/speed.json] [--store] [--write]

What is measured is written to OUT/bench.json after every row. `--quick` takes a few
small rendered parts and random weights: it shows that everything runs, and its figures mean nothing. `--compare` names
the ratios that are more than a tenth worse than stored ones. `--store` writes docs/speed.json and docs/speed.md, which
`--write` makes anew from the JSON; it refuses on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from against_anomalib import Case, make_dataset, make_task, measure_side
from bench_text import Bench, Cost, Machine, Row, compare, page, read_cost, table
from choosing_a_method import DOCS, ONE_STEP, RESNET, processor_name
from processes import measure_process
from training_speed import measure as measure_training

from vqi.platform.files import write_whole
from vqi.platform.threads import available_cpus

HERE = Path(__file__).resolve().parent
STORED, PAGE = DOCS / "speed.json", DOCS / "speed.md"
LAYERS = ("layer2", "layer3")
MILLI = 1e-3
BACKBONE = "the bare backbone on OpenVINO"
BACKBONES = {"stfpm": f"{BACKBONE}, of which it runs two, teacher and student"}
# Beyond so much load a core (others' work, before this run) nothing is stored.
QUIET = 1.5


@dataclass(frozen=True)
class Fit:
    """A set and PatchCore's share of its patches."""

    name: str
    share: float

    @property
    def title(self) -> str:
        return f"{self.name}, {100 * self.share:g} %"


@dataclass(frozen=True)
class Plan:
    """What is measured, and on what: sets are folders in MVTec layout below `data`."""

    configuration: str
    data: Path
    weights: Path
    threads: int
    anomalib: Path | None
    side: int = 256
    fits: tuple[Fit, ...] = (Fit("cookie", 0.01), Fit("hazelnut", 0.1))
    bundles: tuple[str, ...] = ("patchcore", "padim", "dfm", "stfpm")
    bundle_set: str = "cookie"
    banks: tuple[int, ...] = (2000, 16000)
    checked: str = "magnetic_tile"
    training: dict[str, tuple[int, int] | None] = field(default_factory=lambda: {"stfpm": None, "fastflow": None})
    rounds: int = 5


def measure_fits(plan: Plan, scratch: Path) -> Iterator[tuple[str, Row]]:
    """From photographs to a detector with its threshold; anomalib makes no threshold from normals."""
    for number, fit in enumerate(plan.fits):
        folder, data = scratch / f"fit-{number}", plan.data / fit.name
        folder.mkdir()
        dataset = make_dataset(data, folder / "dataset")
        case = Case(fit.title, "patchcore", LAYERS, {"coreset_ratio": fit.share})
        task = make_task(case, data, folder / "dataset", plan.weights)
        task |= {"threads": plan.threads, "size": [plan.side] * 2, "by_engine": True}
        ours = measure_side(Path(sys.executable), "vqi_side.py", task, folder / "ours", dataset)
        theirs = (
            measure_side(plan.anomalib, "anomalib_side.py", task, folder / "anomalib", dataset)
            if plan.anomalib
            else None
        )
        photographs = f"{len(task['train'])} photographs of {fit.title}"
        alone, whole, engine = (
            read_cost(ours, f"{part}_seconds", peak="peak_mib") for part in ("fit", "calibrated_fit", "engine")
        )
        yield (
            f"fit/{fit.title}",
            Row.of(
                f"PatchCore's fit, {photographs}",
                _sum(whole, engine),
                read_cost(theirs, "fit_seconds", peak="peak_mib") if theirs else None,
                read_cost(ours, "embed_seconds"),
                "the same photographs, decoded and through the network alone",
            ),
        )
        yield (
            f"calibration/{fit.title}",
            Row.of(
                f"fit with its threshold, {fit.title}",
                _sum(whole, engine),
                limit=_sum(alone, engine),
                limit_is="the same fit without a threshold",
            ),
        )
        for batch in (1, 8):
            key = f"ms_{batch}"
            yield (
                f"torch/{fit.title}/{batch}",
                Row.of(
                    f"an image by PatchCore in torch, {fit.title}, batch {batch}",
                    read_cost(ours, f"latency_{key}", MILLI),
                    read_cost(theirs, f"latency_{key}", MILLI) if theirs else None,
                    read_cost(ours, f"backbone_{key}", MILLI),
                    "the backbone alone in torch",
                ),
            )


def measure_bundles(plan: Plan, scratch: Path) -> Iterator[tuple[str, Row]]:
    """Export, and inference by the bundle."""
    for method in plan.bundles:
        task = {
            "method": method,
            "data": str((plan.data / plan.bundle_set).resolve()),
            "weights": str(plan.weights.resolve()),
            # What was learnt changes no time.
            "overrides": {"image.size": plan.side} | (ONE_STEP if method == "stfpm" else {}),
            "banks": [0, *plan.banks] if method == "patchcore" else [0],
            "threads": plan.threads,
        }
        result = _measure_in_process("bundle", task, scratch)
        yield f"export/{method}", Row.of(f"export of {method}, ONNX and OpenVINO", read_cost(result, "export"))
        for bank in task["banks"]:
            times = result[f"bank {bank or ''}".strip()]
            title = f"{method}, bank {bank:,}" if bank else method
            for batch in (1, 8):
                yield (
                    f"bundle/{title}/{batch}",
                    Row.of(
                        f"an image by the bundle, {title}, batch {batch}",
                        read_cost(times, f"latency_ms_{batch}", MILLI),
                        limit=read_cost(times, f"backbone_ms_{batch}", MILLI),
                        limit_is=BACKBONES.get(method, BACKBONE),
                    ),
                )


def measure_check(plan: Plan, scratch: Path) -> Iterator[tuple[str, Row]]:
    """`vqi check`, which may well find fault with the set (exit code 2)."""
    data = (plan.data / plan.checked).resolve()
    command = [_vqi(), "check", str(data), "--out", str(scratch / "check")]
    ours = Cost(**measure_process(command, scratch / "check.log", allowed=(0, 2)))
    decoded = _measure_in_process("decode", {"data": str(data)}, scratch)
    yield (
        "check",
        Row.of(
            f"vqi check of {plan.checked}, {decoded['photographs']:,} photographs",
            ours,
            limit=read_cost(decoded, "decode"),
            limit_is="the photographs decoded, and nothing else",
        ),
    )


def measure_demo(plan: Plan, scratch: Path) -> Iterator[tuple[str, Row]]:
    """The main job."""
    command = [_vqi(), "demo", "--json", "--weights", str(plan.weights.resolve()), "--out", str(scratch / "demo")]
    yield "demo", Row.of("vqi demo with ResNet-18", Cost(**measure_process(command, scratch / "demo.log")))


def measure_steps(plan: Plan, scratch: Path) -> Iterator[tuple[str, Row]]:
    """Steps of training, by image."""
    for method, shape in plan.training.items():
        python = str(plan.anomalib) if plan.anomalib else None
        result: Any = measure_training(method, python, plan.rounds, plan.threads, shape, ("ours", "limit"))
        costs = {
            name: Cost(
                wall=result["seconds"][name] / result["batch"],
                processor=result["processor_seconds"][name] / result["batch"],
            )
            for name in result["seconds"]
        }
        yield (
            f"training/{method}",
            Row.of(
                f"an image in training of {method}, batch {result['batch']}, {result['side']} px, float32",
                costs["ours"],
                costs.get("anomalib"),
                costs["limit"],
                "as many operations as its convolutions and products have, at the speed of one large matrix product",
            ),
        )


PARTS: dict[str, Callable[[Plan, Path], Iterator[tuple[str, Row]]]] = {
    "fit": measure_fits,
    "bundle": measure_bundles,
    "check": measure_check,
    "demo": measure_demo,
    "training": measure_steps,
}


def run(plan: Plan, parts: list[str], out: Path) -> Bench:
    """Measure, and keep what is measured in `out` after every row."""
    started, load = time.monotonic(), os.getloadavg()[0]
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for part in parts:
            print(f"{part} ...", file=sys.stderr, flush=True)
            for key, row in PARTS[part](plan, Path(scratch)):
                rows[key] = row
                bench = Bench(
                    configuration=plan.configuration,
                    date=time.strftime("%Y-%m-%d"),
                    machine=Machine(processor=processor_name(), threads=plan.threads, load=(load, os.getloadavg()[0])),
                    seconds=round(time.monotonic() - started, 1),
                    versions={name: version(name) for name in ("torch", "openvino")},
                    rows=dict(rows),
                )
                write_whole(out, bench.model_dump_json(indent=1) + "\n")
    return bench


def quick_plan(folder: Path, threads: int, anomalib: Path | None) -> Plan:
    """A few small rendered parts, and random weights."""
    import torch
    from torchvision.models import resnet18

    from vqi.dataset.generator import generate

    generate(folder / "rendered", seed=0, normals=8, test_normals=4, defects_each=1, size=(96, 96))
    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), folder / "weights.pth")
    return Plan(
        "rendered parts of 64 px and random weights",
        folder,
        folder / "weights.pth",
        threads,
        anomalib,
        side=64,
        fits=(Fit("rendered", 0.1),),
        bundles=("patchcore", "stfpm"),
        bundle_set="rendered",
        banks=(500,),
        checked="rendered",
        training={"stfpm": (2, 64)},
        rounds=1,
    )


def _sum(one: Cost, other: Cost) -> Cost:
    return Cost(wall=one.wall + other.wall, processor=one.processor + other.processor, peak_mib=one.peak_mib)


def _measure_in_process(what: str, task: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """What bench_side.py measures, in a process of its own."""
    (scratch / "task.json").write_text(json.dumps(task), encoding="utf-8")
    command = [sys.executable, "-W", "ignore", str(HERE / "bench_side.py"), what]
    measure_process([*command, str(scratch / "task.json"), str(scratch / "result.json")], scratch / f"{what}.log")
    return json.loads((scratch / "result.json").read_text(encoding="utf-8"))


def _vqi() -> str:
    return str(Path(sys.executable).with_name("vqi"))


def read_stored(path: Path) -> Bench | None:
    return Bench.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anomalib-python", type=Path, help="interpreter of an environment with anomalib 2.7")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights") / RESNET)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=available_cpus())
    parser.add_argument("--quick", action="store_true", help="small rendered parts: shows that all runs")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--compare", type=Path, metavar="STORED", help="name what is worse than in this JSON")
    parser.add_argument("--store", action="store_true", help="write docs/speed.json and docs/speed.md")
    parser.add_argument("--write", action="store_true", help="write docs/speed.md anew and measure nothing")
    arguments = parser.parse_args()
    if arguments.write:
        write_whole(PAGE, page(read_stored(STORED)))
        return
    load, threads = os.getloadavg()[0], arguments.threads
    stored = read_stored(arguments.compare) if arguments.compare else None
    if arguments.compare and stored is None:
        parser.error(f"--compare: {arguments.compare} is not a file; make bench BENCH=--store writes docs/speed.json.")
    if arguments.store and (arguments.quick or set(arguments.only) != set(PARTS)):
        parser.error("--store: only a whole run is stored; leave --quick and --only out.")
    if arguments.store and load > QUIET * threads:
        parser.error(
            f"--store: the load is {load:.1f}, so the figures would mislead; wait until it is below {QUIET * threads:g}."
        )
    if arguments.anomalib_python and not arguments.anomalib_python.is_file():
        parser.error(f"--anomalib-python: {arguments.anomalib_python} is not a file.")
    with tempfile.TemporaryDirectory() as rendered:
        if arguments.quick:
            plan = quick_plan(Path(rendered), threads, arguments.anomalib_python)
        else:
            for needed in (arguments.data, arguments.weights):
                if not needed.exists():
                    parser.error(
                        f"{needed} does not exist; name the photographs by --data and the weights by --weights."
                    )
            configuration = "cookie, hazelnut and magnetic_tile at 256 px, ResNet-18 up to layer3 (ImageNet)"
            plan = Plan(configuration, arguments.data, arguments.weights, threads, arguments.anomalib_python)
        if load > QUIET * threads:
            print(f"The load is {load:.1f}: read processor time and its ratios alone.", file=sys.stderr)
        bench = run(plan, [part for part in PARTS if part in arguments.only], arguments.out / "bench.json")
    print(table(bench))
    if stored:
        print(compare(bench, stored))
    if arguments.store:
        write_whole(STORED, bench.model_dump_json(indent=1) + "\n")
        write_whole(PAGE, page(bench))


if __name__ == "__main__":
    main()
