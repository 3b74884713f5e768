"""A server under a load that it cannot bear: is its memory flat, are the accepted answered in time, the rest refused?

    python tests/benchmarks/serving_load.py BUNDLE PHOTOGRAPH --minutes 60 [--queue 16] [--out load.json]

Starts `vqi serve` of BUNDLE, measures for some seconds how many photographs a second it answers, then asks for twice as
many, evenly spaced, whatever the answers are. A request's time counts from when it was due, so that waiting for a free
connection is part of it. Every ten seconds: the server's resident memory (VmRSS), answers by status, percentiles of what
was accepted.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

CONNECTIONS = 48
CAPACITY_SECONDS = 30
EVERY = 10.0


@dataclass
class Tally:
    """What was answered since the last look, and in all."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def add(self, status: str, seconds: float) -> None:
        with self.lock:
            self.statuses[status] += 1
            if status == "200":
                self.seconds.append(seconds)


def ask(port: int, body: bytes, due: queue.Queue[float | None], tally: Tally) -> None:
    """Send a request for each due time. A connection that the server closed while it was idle is opened again."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    while (at := due.get()) is not None:
        for last in (False, True):
            reused = connection.sock is not None
            try:
                connection.request("POST", "/predict", body, {"Content-Type": "image/jpeg"})
                answer = connection.getresponse()
                answer.read()
                tally.add(str(answer.status), time.monotonic() - at)
                break
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if last or not reused:
                    tally.add(type(error).__name__, time.monotonic() - at)
                    break


def capacity(port: int, body: bytes) -> float:
    """Answers a second with eight clients that each wait for theirs."""
    due: queue.Queue[float | None] = queue.Queue()
    tally, started = Tally(), time.monotonic()
    threads = [threading.Thread(target=ask, args=(port, body, due, tally)) for _ in range(8)]
    for thread in threads:
        thread.start()
    while time.monotonic() - started < CAPACITY_SECONDS:
        if due.qsize() < 8:
            due.put(time.monotonic())
        time.sleep(0.001)
    passed = time.monotonic() - started
    for _ in threads:
        due.put(None)
    for thread in threads:
        thread.join()
    return tally.statuses["200"] / passed


def resident_mib(process: int) -> float:
    text = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


def percentile(values: list[float], share: float) -> float | None:
    ordered = sorted(values)
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("photograph", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--queue", default="16")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--out", type=Path, default=Path("load.json"))
    arguments = parser.parse_args()
    body = arguments.photograph.read_bytes()
    command = [Path(sys.executable).with_name("vqi"), "serve", arguments.bundle, "--port", "0"]
    command += ["--queue", arguments.queue, "--threads", arguments.threads]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)", server.stdout.readline())[1])
        rate = 2 * capacity(port, body)
        print(f"capacity {rate / 2:.1f} a second, asked: {rate:.1f}", flush=True)
        due: queue.Queue[float | None] = queue.Queue()
        tally, rows, everything = Tally(), [], []
        threads = [threading.Thread(target=ask, args=(port, body, due, tally), daemon=True) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        started = reported = time.monotonic()
        number = 0
        while (now := time.monotonic()) - started < 60 * arguments.minutes:
            while started + number / rate <= now:
                due.put(started + number / rate)
                number += 1
            if now - reported >= EVERY:
                reported = now
                with tally.lock:
                    statuses, seconds = dict(tally.statuses), tally.seconds[:]
                    tally.statuses.clear()
                    tally.seconds.clear()
                everything += seconds
                row = {
                    "minute": round((now - started) / 60, 2),
                    "mib": round(resident_mib(server.pid), 1),
                    "statuses": statuses,
                    "p50_ms": percentile(seconds, 0.5),
                    "p99_ms": percentile(seconds, 0.99),
                    "load": os.getloadavg()[0],
                }
                rows.append(row)
                summary = {
                    "capacity": round(rate / 2, 1),
                    "asked": number,
                    "accepted": len(everything),
                    "p50_ms": percentile(everything, 0.5),
                    "p99_ms": percentile(everything, 0.99),
                    "largest_ms": percentile(everything, 1.0),
                    "statuses": dict(sum((Counter(one["statuses"]) for one in rows), Counter())),
                    "rows": rows,
                }
                arguments.out.write_text(json.dumps(summary, indent=1))
                print(row, flush=True)
            time.sleep(min(0.005, 1 / rate))
    finally:
        server.send_signal(signal.SIGTERM)
        print("server ended with", server.wait(60), flush=True)


if __name__ == "__main__":
    main()
