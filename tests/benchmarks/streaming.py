"""Ingest and check of many small photographs from an S3 store: objects a second, processor time, peak memory, how right
the time that is said to be left was, and what a killed ingest leaves to do, beside a plain tool that lists and copies.

    python tests/benchmarks/streaming.py --count 10000 --out build/streaming

The store is a MinIO on this machine (`make s3-servers`), which shares its processors with both sides.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from processes import measure_process

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
BUCKET = "streaming"
PARTS = ("copy", "open", "ingest", "check", "kill")


def fill(count: int, side: int) -> None:
    """`count` small JPEGs, each with a texture of its own, in the layout of MVTec AD."""
    import numpy as np
    from PIL import Image

    from vqi.storage.s3_client import client_from_environment

    client, _ = client_from_environment(os.environ, 16)
    client.make_bucket(BUCKET)
    draws = np.random.default_rng(0)

    def photograph() -> bytes:
        values = Image.fromarray(draws.normal(120, 30, (12, 12)).clip(0, 255).astype(np.uint8))
        file = io.BytesIO()
        values.resize((side, side), Image.Resampling.BICUBIC).convert("RGB").save(file, "JPEG", quality=90)
        return file.getvalue()

    def put(number: int, content: bytes) -> None:
        where = "train" if number % 100 else "test"
        client.put_object(BUCKET, f"set/{where}/good/{number:06}.jpg", io.BytesIO(content), len(content))

    with ThreadPoolExecutor(8) as pool:
        for start in range(0, count, 1000):
            batch = range(start, min(start + 1000, count))
            list(pool.map(put, batch, [photograph() for _ in batch]))


def copy(folder: Path) -> None:
    """What a plain tool does: list, then get every object into a file, eight at once."""
    from vqi.storage.s3_client import client_from_environment

    client, _ = client_from_environment(os.environ, 16)
    keys = [item.object_name for item in client.list_objects(BUCKET, prefix="set/", recursive=True)]

    def get(key: str) -> None:
        file = folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        response = client.get_object(BUCKET, key)
        file.write_bytes(response.read())
        response.release_conn()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(get, keys))


def open_only() -> None:
    """What of ingest the store takes part in."""
    from vqi.dataset.sources import open_source

    with open_source(f"s3://{BUCKET}/set") as source:
        assert source.files


def ingest_set(folder: Path) -> None:
    from vqi.category import Category
    from vqi.steps.ingest.settings import StepSettings
    from vqi.steps.ingest.step import ingest

    values = {"name": "streaming", "data": {"source": f"s3://{BUCKET}/set"}}
    ingest(StepSettings.of(Category.parse(values, "The benchmark")), dataset=folder)


def check_set(folder: Path) -> None:
    """The check of what `ingest_set` wrote."""
    from vqi.category import Category
    from vqi.steps.check_dataset.settings import StepSettings
    from vqi.steps.check_dataset.step import check_dataset

    settings = StepSettings.of(Category.parse({"name": "streaming"}, "The benchmark"))
    files = {"page": folder.parent / "check.html", "verdict": folder.parent / "verdict.json"}
    check_dataset(settings, dataset=folder, **files)


def errors_of_progress(log: Path) -> dict[str, str]:
    """For each part of the work that took 10 s and more: how far the seconds that were said to be left, while it was
    done to a quarter up to three quarters, lay from what was left, at most, as a share of it."""
    said: dict[str, list[tuple[float, float, float]]] = {}
    for line in log.read_text().splitlines():
        with suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            found = re.fullmatch(r"(.+) \d+/\d+ \((\d+) %\), (\d+) s left.*", entry["message"])
            if found:
                at = datetime.fromisoformat(entry["time"]).timestamp()
                said.setdefault(found[1], []).append((at, float(found[2]), float(found[3])))
    errors = {}
    for what, lines in said.items():
        last, _, left = lines[-1]
        end = last + left
        if end - lines[0][0] >= 10:
            shares = [(end - at, seconds) for at, share, seconds in lines if 25 <= share <= 75 and end - at > 0]
            worst = max((abs(seconds - rest) / rest for rest, seconds in shares), default=float("nan"))
            errors[what] = f"{worst:.0%} of {len(shares)}"
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--measure", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--only", choices=("copy", "open", "ingest", "check"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("build/streaming"))
    options = parser.parse_args()
    if options.only:
        actions = {
            "copy": lambda: copy(options.out / "copied"),
            "open": open_only,
            "ingest": lambda: ingest_set(options.out / "dataset"),
            "check": lambda: check_set(options.out / "dataset"),
        }
        from vqi.platform.logs import configure

        configure("json")
        return actions[options.only]()
    from s3_server import serving

    shutil.rmtree(options.out, ignore_errors=True)
    (options.out / "server").mkdir(parents=True)
    with serving("minio", options.out.resolve() / "server") as server:
        os.environ.update(server.environment() | {"AWS_REGION": "us-east-1", "VQI_CACHE": str(options.out / "cache")})
        fill(options.count, options.side)
        rows = []

        def measure(what: str, only: str) -> None:
            command = [sys.executable, "-W", "ignore", __file__, "--only", only, "--out", str(options.out)]
            log = options.out / f"{what}.log"
            cost = measure_process(command, log)
            rows.append(
                {
                    "what": what,
                    "objects": options.count,
                    "wall_s": round(cost["wall"], 1),
                    "cpu_s": round(cost["processor"], 1),
                    "peak_mib": round(cost["peak_mib"]),
                    "objects_a_second": round(options.count / cost["wall"]),
                    "error_of_time_left": errors_of_progress(log),
                }
            )
            print(json.dumps(rows[-1]), flush=True)

        if "copy" in options.measure:
            measure("plain copy", "copy")
        if "open" in options.measure:
            measure("open_source", "open")
            measure("open_source again", "open")
            shutil.rmtree(options.out / "cache")
        if "ingest" in options.measure:
            measure("ingest", "ingest")
        if "check" in options.measure:
            measure("check", "check")
        if "kill" in options.measure:
            shutil.rmtree(options.out / "cache", ignore_errors=True)
            kill(options.out, options.count)
            there = {path: path.stat().st_mtime_ns for path in (options.out / "cache").rglob("*") if path.is_file()}
            measure("ingest after a kill", "ingest")
            kept = sum(path.exists() and path.stat().st_mtime_ns == before for path, before in there.items())
            print(json.dumps({"files before the kill": len(there), "untouched by the second run": kept}))
    (options.out / "streaming.json").write_text(json.dumps(rows, indent=2) + "\n")


def kill(out: Path, count: int) -> None:
    """An ingest that is killed while it loads."""
    command = [sys.executable, "-W", "ignore", __file__, "--only", "ingest", "--out", str(out)]
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wanted = random.Random(0).uniform(0.3, 0.7) * count
    while sum(1 for _ in (out / "cache" / "objects").glob("*")) < wanted:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()


if __name__ == "__main__":
    main()
