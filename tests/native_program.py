"""The native program as tests call it: built, as a whole, and part by part."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vqi.deployment.predictor import Prediction, Predictor
from vqi.platform.errors import BadInput

ROOT = Path(__file__).resolve().parents[1]
# Another build is tested as well: one with sanitizers (make test-native SANITIZE=yes).
# How far a score, and a map's values as shares of its largest, may lie from Python's.
NEAR = 1e-6
BUILD = Path(os.environ.get("VQI_NATIVE_BUILD", ROOT / "build" / "native"))
MAKE = "the native program is not built here: `make native` builds it, where docs/native.md's packages are"


@cache
def built() -> Path:
    """The folder of the programs, brought up to date; skips the test where they were never built."""
    if not (BUILD / "CMakeCache.txt").is_file():
        pytest.skip(MAKE)
    targets = ("vqi-native", "example", "probe")
    with open(BUILD / "tests.lock", "w") as lock:  # of several processes that test
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(["cmake", "--build", BUILD, "--target", *targets], check=True, capture_output=True)
    return BUILD


def run(*words: object, program: str = "vqi-native", stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A program that has two minutes; one that a signal ended, or a sanitizer, fails the test."""
    command = [BUILD / program, *map(str, words)]
    # What OpenVINO's scheduler leaves behind is not ours.
    environment = {**os.environ, "LSAN_OPTIONS": f"suppressions={ROOT}/native/tests/leaks.txt:print_suppressions=0"}
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=120, env=environment, check=False)
    assert done.returncode in (0, 1, 2, 3), done.stderr.decode(errors="replace")[-3000:]
    assert b"Sanitizer" not in done.stderr, done.stderr.decode(errors="replace")[-3000:]
    return done


def predict(bundle: Path, photographs: Iterable[Path], *options: object) -> list[dict[str, Any]]:
    """What vqi-native prints, whatever its exit code."""
    done = run("--threads", 1, *options, "--", bundle, *photographs)
    return [json.loads(line) for line in done.stdout.splitlines()]


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


def check_native(bundle: Path, photographs: list[Path], backend: str = "openvino", maps: int = 2) -> int:
    """Compares all that is said of photographs; the number of boxes. `maps`: of how many the maps are compared."""
    predictor = Predictor(bundle, backend, threads=1, batch_size=1)
    expected = list(predictor.predict(photographs))
    lines = predict(bundle, photographs, "--backend", backend)
    assert len(lines) == len(photographs)
    boxes = 0
    for line, prediction in zip(lines, expected, strict=True):
        assert isinstance(prediction, Prediction)
        assert "error" not in line
        assert line["score"] == pytest.approx(prediction.score, rel=NEAR)
        assert line["threshold"] == predictor.sidecar.thresholds.image
        assert line["decision"] == prediction.decision
        assert line.get("implausible", "") == prediction.implausible
        assert (line["height"], line["width"]) == prediction.map.shape
        found = [tuple(box[side] for side in ("x1", "y1", "x2", "y2")) for box in line["boxes"]]
        assert found == [box[:4] for box in prediction.boxes]
        np.testing.assert_allclose([box["score"] for box in line["boxes"]], [box[4] for box in prediction.boxes], NEAR)
        boxes += len(found)
    for path, prediction in list(zip(photographs, expected, strict=True))[-maps:]:
        assert isinstance(prediction, Prediction)
        values = probe("map", bundle, backend, path, kind=np.float32)
        size = float(np.nanmax(np.abs(prediction.map)))
        np.testing.assert_allclose(values, prediction.map, rtol=NEAR, atol=NEAR * size)
    return boxes
