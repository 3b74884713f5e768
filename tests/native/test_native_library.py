"""libvqi by its C interface, as another language calls it: frames in memory, several threads, and misuse."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from native_program import BUILD
from toy_bundle import photograph

# A process of its own: the library brings its OpenVINO along.
CALLS = """
import ctypes, json, sys, threading
import numpy as np

class Box(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("x1", "y1", "x2", "y2")] + [("score", ctypes.c_float)]

class Result(ctypes.Structure):
    _fields_ = [("score", ctypes.c_double), ("threshold", ctypes.c_double), ("decision", ctypes.c_int32),
                ("width", ctypes.c_int32), ("height", ctypes.c_int32), ("box_count", ctypes.c_size_t),
                ("boxes", ctypes.POINTER(Box)), ("map", ctypes.POINTER(ctypes.c_float)), ("level", ctypes.c_double),
                ("implausible", ctypes.c_char_p), ("seconds", ctypes.c_double), ("reserved", ctypes.c_int64 * 4)]

class Frame(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p)] + [
        (name, ctypes.c_int32) for name in ("width", "height", "channels", "bytes_per_channel")
    ] + [("stride", ctypes.c_int64)]

class Options(ctypes.Structure):
    _fields_ = [("backend", ctypes.c_char_p)] + [
        (name, ctypes.c_int32) for name in ("threads", "score_implausible", "skip_golden", "reserved_half")
    ] + [("reserved", ctypes.c_int64 * 3)]

library = ctypes.CDLL(sys.argv[1])
library.vqi_last_error.restype = library.vqi_version.restype = ctypes.c_char_p
bundle = ctypes.c_void_p()
options = Options(threads=1)
opened = library.vqi_open(sys.argv[2].encode(), ctypes.byref(options), ctypes.byref(bundle))
assert opened == 0, library.vqi_last_error()

def scored(function, *words):
    result = ctypes.POINTER(Result)()
    status = function(bundle, *words, ctypes.byref(result))
    if status:
        assert not result
        return status, library.vqi_last_error().decode()
    found = result.contents
    values = found.score, found.decision, [tuple(getattr(found.boxes[n], side) for side in ("x1", "y1", "x2", "y2"))
                                           for n in range(found.box_count)]
    np.ctypeslib.as_array(found.map, (found.height, found.width)).sum()
    library.vqi_free_result(result)
    return 0, values

def frame(array, stride=0):
    height, width = array.shape[:2]
    channels = array.shape[2] if array.ndim == 3 else 1
    return ctypes.byref(Frame(array.ctypes.data, width, height, channels, array.itemsize, stride))
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("parts")
    for number in range(4):
        Image.fromarray(photograph(20 + number, number % 2 == 1)).save(folder / f"{number}.png")
    return sorted(folder.glob("*.png"))


def call(bundle: Path, body: str, *words: object) -> None:
    library = BUILD / "libvqi.so"
    if b"libasan" in subprocess.run(["ldd", library], capture_output=True, check=True).stdout:
        pytest.skip("a library with sanitizers cannot be loaded by Python")
    program = CALLS + textwrap.dedent(body) + "library.vqi_close(bundle)\n"
    command = [sys.executable, "-c", program, library, bundle, *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env={**os.environ}, check=False)
    assert done.returncode == 0, done.stderr


def test_frames_are_what_files_of_them_are(toy_bundle: Path, parts: list[Path], tmp_path: Path) -> None:
    np.save(tmp_path / "frame.npy", photograph(21, True))
    body = """
        status, expected = scored(library.vqi_score_file, sys.argv[3].encode())
        assert status == 0 and expected[1] == 1 and expected[2]
        pixels = np.load(sys.argv[4])
        assert scored(library.vqi_score_frame, frame(pixels), b"it") == (0, expected)
        wide = np.zeros((80, 128, 3), np.uint8)
        wide[:, :96] = pixels
        assert scored(library.vqi_score_frame, frame(wide[:, :96], wide.strides[0]), b"it") == (0, expected)
        assert scored(library.vqi_score_frame, frame(pixels.astype(np.uint16) * 257), None) == (0, expected)
        grey = np.ascontiguousarray(pixels[..., 0])
        three = np.repeat(grey[..., None], 3, axis=2)
        alone = scored(library.vqi_score_frame, frame(grey), b"it")
        assert alone[0] == 0 and alone == scored(library.vqi_score_frame, frame(three), b"it")
        data = open(sys.argv[3], "rb").read()
        assert scored(library.vqi_score_bytes, data, ctypes.c_size_t(len(data)), b"it") == (0, expected)
    """
    call(toy_bundle, body, parts[1], tmp_path / "frame.npy")


def test_threads_score_as_one_does(toy_bundle: Path, parts: list[Path]) -> None:
    body = """
        files = [word.encode() for word in sys.argv[3:]]
        expected = [scored(library.vqi_score_file, file) for file in files]
        assert [status for status, _ in expected] == [0] * 4
        errors, wrong = [], []

        def work(number):
            for turn in range(25):
                at = (number + turn) % 5
                if at == 4:
                    errors.append(scored(library.vqi_score_file, f"/missing-{number}".encode()) == (
                        2, f"/missing-{number} is not a file."))
                elif scored(library.vqi_score_file, files[at]) != expected[at]:
                    wrong.append(at)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert wrong == [] and errors == [True] * 20
    """
    call(toy_bundle, body, *parts)


def test_golden_photographs_are_scored_unless_who_opens_it_says_no(toy_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(toy_bundle, tmp_path / "bundle"))
    sidecar = json.loads((bundle / "bundle.json").read_text())
    sidecar["golden"]["scores"]["float32"] = [9.0, 9.0]
    (bundle / "bundle.json").write_text(json.dumps(sidecar))
    body = """
        other = ctypes.c_void_p()
        assert library.vqi_open(sys.argv[3].encode(), ctypes.byref(options), ctypes.byref(other)) == 3 and not other
        assert b"does not score its golden photographs" in library.vqi_last_error()
        options.skip_golden = 1
        assert library.vqi_open(sys.argv[3].encode(), ctypes.byref(options), ctypes.byref(other)) == 0
        library.vqi_close(other)
    """
    call(toy_bundle, body, bundle)


def test_misuse_is_a_sentence(toy_bundle: Path, tmp_path: Path) -> None:
    body = """
        null = ctypes.c_void_p()
        assert library.vqi_open(None, None, ctypes.byref(null)) == 2 and not null
        assert library.vqi_open(sys.argv[2].encode(), None, None) == 2
        options.reserved[2] = 1
        assert library.vqi_open(sys.argv[2].encode(), ctypes.byref(options), ctypes.byref(null)) == 2
        assert library.vqi_last_error() == b"The reserved options must be 0."
        options.reserved[2], options.reserved_half = 0, 1
        assert library.vqi_open(sys.argv[2].encode(), ctypes.byref(options), ctypes.byref(null)) == 2
        assert library.vqi_last_error() == b"The reserved options must be 0."
        assert library.vqi_open(sys.argv[3].encode(), None, ctypes.byref(null)) == 2
        assert b"is not a bundle" in library.vqi_last_error()
        assert library.vqi_score_file(None, b"a", ctypes.byref(null)) == 2
        assert library.vqi_score_file(bundle, b"a", None) == 2
        assert scored(library.vqi_score_file, None)[0] == 2
        assert scored(library.vqi_score_bytes, None, ctypes.c_size_t(9), b"it")[0] == 2
        assert scored(library.vqi_score_bytes, b"", ctypes.c_size_t(0), b"it")[0] == 2
        assert scored(library.vqi_score_frame, None, b"it")[0] == 2
        pixels = np.zeros((80, 96, 3), np.uint8)
        for change in (dict(width=0), dict(height=-1), dict(channels=2), dict(bytes_per_channel=4), dict(stride=287),
                       dict(data=None), dict(width=2**31 - 1, height=2**31 - 1)):
            values = dict(data=pixels.ctypes.data, width=96, height=80, channels=3, bytes_per_channel=1, stride=0)
            values.update(change)
            status, sentence = scored(library.vqi_score_frame, ctypes.byref(Frame(**values)), b"it")
            assert status == 2 and sentence.startswith("it ") and sentence.endswith("."), sentence
        library.vqi_free_result(None)
        library.vqi_close(None)
        assert library.vqi_version().startswith(b"0.1.0 (OpenVINO 20")
    """
    call(toy_bundle, body, tmp_path)


def test_the_header_is_c_and_the_structures_are_those_of_the_examples() -> None:
    """Sizes that a caller in another language relies on (64 bits)."""
    program = '#include <vqi.h>\n_Static_assert(sizeof(vqi_result) == 112 && sizeof(vqi_options) == 48, "");\n'
    program += '_Static_assert(sizeof(vqi_frame) == 32 && sizeof(vqi_box) == 20 && sizeof(vqi_info) == 80, "");\n'
    include = Path(__file__).parents[2] / "native" / "include"
    command = ["cc", "-std=c99", "-Wall", "-Werror", "-Wno-pedantic", "-fsyntax-only", f"-I{include}", "-xc", "-"]
    done = subprocess.run(command, input=program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ctypes.sizeof(ctypes.c_void_p) == 8
