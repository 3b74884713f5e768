"""The native program as tests call it: built, as a whole, and part by part."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vqi.platform.errors import BadInput

ROOT = Path(__file__).resolve().parents[1]
# Another build is tested as well: one with sanitizers (make test-native SANITIZE=yes).
BUILD = Path(os.environ.get("VQI_NATIVE_BUILD", ROOT / "build" / "native"))
MAKE = "the native program is not built here: `make native` builds it, where docs/native.md's packages are"


def built() -> Path:
    """The folder of the programs, brought up to date; skips the test where they were never built."""
    if not (BUILD / "CMakeCache.txt").is_file():
        pytest.skip(MAKE)
    targets = ("vqi-native", "example", "probe")
    subprocess.run(["cmake", "--build", BUILD, "--target", *targets], check=True, capture_output=True)
    return BUILD


def run(*words: object, program: str = "vqi-native", stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A program that has two minutes; one that a signal ended, or a sanitizer, fails the test."""
    command = [BUILD / program, *map(str, words)]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False)
    assert done.returncode in (0, 1, 2), done.stderr.decode(errors="replace")[-3000:]
    assert b"Sanitizer" not in done.stderr, done.stderr.decode(errors="replace")[-3000:]
    return done


def predict(bundle: Path, *words: object) -> list[dict[str, Any]]:
    """What vqi-native prints, whatever its exit code."""
    return [json.loads(line) for line in run("--threads", 1, *words[:-1], bundle, words[-1]).stdout.splitlines()]


def probe(part: str, *words: object, array: np.ndarray | None = None, kind: type = np.uint8) -> np.ndarray:
    """The array that a part answers, of one array where it takes one. Raises BadInput with its sentence where it
    refuses."""
    stdin = b"" if array is None else np.array(array.shape[1::-1], np.int32).tobytes() + array.tobytes()
    done = run(part, *words, program="probe", stdin=stdin)
    if done.returncode:
        raise BadInput(done.stderr.decode().strip())
    width, height = np.frombuffer(done.stdout[:8], np.int32)
    values = np.frombuffer(done.stdout[8:], kind)
    return values.reshape((height, width) if values.size == height * width else (height, width, 3))


def probe_text(part: str, *words: object, array: np.ndarray) -> list[str]:
    """The lines that a part answers."""
    stdin = np.array(array.shape[1::-1], np.int32).tobytes() + array.tobytes()
    return run(part, *words, program="probe", stdin=stdin).stdout.decode().splitlines()
