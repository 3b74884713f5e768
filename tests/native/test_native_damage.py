"""Damaged and hostile bundles and photographs: one sentence, exit code 2, and the others are scored all the same."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from native_program import BUILD, ROOT, check_native, predict, run
from toy_bundle import photograph, write_toy_bundle
from vqi.platform.files import sha256_of


@pytest.fixture
def bundle(toy_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_bundle, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("parts")
    for number, defect in enumerate((False, True, False, True)):
        Image.fromarray(photograph(20 + number, defect)).save(folder / f"{number}.png")
    return sorted(folder.glob("*.png"))


def refusal(bundle: Path, photographs: list[Path], code: int = 2, *options: object) -> str:
    """The sentence that opening ends with."""
    done = run(*options, "--", bundle, *photographs)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == code
    assert done.stdout == b""
    assert len(lines) == 1
    assert lines[0].startswith("vqi-native: ")
    assert lines[0].endswith(".")
    return lines[0]


def test_a_bundle_says_what_python_says(bundle: Path, parts: list[Path]) -> None:
    assert check_native(bundle, parts) >= 2
    done = run(bundle, *parts)
    assert done.returncode == 0
    assert [json.loads(line)["decision"] for line in done.stdout.splitlines()] == ["good", "defect"] * 2


def edited(bundle: Path, path: str, value: Any) -> None:
    """Set a value of bundle.json, or with `...` remove it; a point in a key is a bar in `path`."""
    file = bundle / "bundle.json"
    sidecar = json.loads(file.read_text())
    *above, last = (key.replace("|", ".") for key in path.split("."))
    part = sidecar
    for key in above:
        part = part[key]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    file.write_text(json.dumps(sidecar))


EDITS: dict[str, tuple[str, Any]] = {
    "has format 'vqi-bundle/9'": ("format", "vqi-bundle/9"),
    "malformed at surprise (this version knows no such key)": ("surprise", 1),
    "malformed at preprocessing.blur": ("preprocessing.blur", 2),
    "malformed at preprocessing.geometry.turn": ("preprocessing.geometry.turn", 90),
    "malformed at preprocessing.decoding.gamma": ("preprocessing.decoding.gamma", 2.2),
    "malformed at preprocessing.decoding.white_level (it is missing)": ("preprocessing.decoding.white_level", ...),
    "malformed at preprocessing.decoding.white_level (it must lie": ("preprocessing.decoding.white_level", 0),
    "malformed at preprocessing.resize": ("preprocessing.resize", "bicubic"),
    "malformed at preprocessing.geometry.size.0": ("preprocessing.geometry.size", [2**40, 64]),
    "malformed at preprocessing.geometry.crop (it is larger": ("preprocessing.geometry.crop", [65, 64]),
    "malformed at preprocessing.geometry.region (it is empty)": ("preprocessing.geometry.region", [5, 0, 5, 9]),
    "it makes too many tiles": (
        "preprocessing.geometry",
        {"size": [16384, 16384], "crop": None, "region": None, "tile": [32, 32], "overlap": 0.75},
    ),
    "it must have tiles": ("preprocessing.geometry", {"size": [16384, 16384], "crop": None, "region": None}),
    "aligns photographs (image.align), which the native program does not do; use vqi predict": (
        "preprocessing.alignment",
        {"x": 1},
    ),
    "reads another page": ("preprocessing.decoding.page", 2),
    "malformed at graph.input_shape": ("graph.input_shape", [None, 3, 64, 64]),
    "malformed at graph.outputs": ("graph.outputs", ["map", "score"]),
    "malformed at thresholds.image (it must be a number)": ("thresholds.image", "high"),
    "malformed at thresholds.pixel (it is missing)": ("thresholds.pixel", ...),
    "malformed at boxes": ("boxes", {"rule": "fraction", "fraction": None}),
    "malformed at plausibility.ranges": ("plausibility.ranges.side", ...),
    "malformed at formats.openvino.further": ("formats.openvino.further", 1),
    "holds nothing for OpenVINO; it holds onnx: export again with openvino in export.formats": (
        "formats.openvino",
        ...,
    ),
    "malformed at formats.openvino.files (it must name": (
        "formats.openvino.files.more",
        {"sha256": "0" * 64, "bytes": 1},
    ),
    "malformed at files.index.safetensors": ("files", {}),
    "does not hold the index tensors": ("graph.index", [{"name": "bank", "dtype": "float32", "shape": [7, 16]}]),
    "malformed at golden.scores (it must hold": ("golden.scores.float32", []),
    "malformed at golden.scores.float32.1 (it must be a number)": ("golden.scores.float32", [1.0, "high"]),
    "malformed at golden.scores.float32 (it is missing)": ("golden.scores", {"bfloat16": [1.0, 2.0]}),
    "malformed at files.golden.safetensors (it is missing)": ("files.golden|safetensors", ...),
    "does not hold the golden photographs that its bundle.json names": ("golden.scores.float32", [1.0, 2.0, 3.0]),
    "(its SHA-256 differs)": (
        "formats.openvino.files",
        {
            "openvino/model.xml": {"sha256": "0" * 64, "bytes": 1},
            "openvino/model.bin": {"sha256": "0" * 64, "bytes": 1},
        },
    ),
}


@pytest.mark.parametrize("sentence", EDITS)
def test_a_sidecar_that_says_something_else_is_refused(sentence: str, bundle: Path, parts: list[Path]) -> None:
    edited(bundle, *EDITS[sentence])
    assert sentence in refusal(bundle, parts)


TEXTS = {
    "nothing": b"",
    "no object": b"[]",
    "text": b'"vqi-bundle/4"',
    "cut off": b'{"format": "vqi-bundle/4", "name": "a',
    "not UTF-8": b'{"format": "vqi-bundle/4", "name": "\xff"}',
    "deep": b"[" * 2_000_000,
    "a number that is not one": b'{"format": "vqi-bundle/4", "seed": 1e999}',
    "NaN": b'{"format": NaN}',
    "zeros": bytes(5000),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_sidecar_that_is_not_one_is_refused(text: bytes, bundle: Path, parts: list[Path]) -> None:
    (bundle / "bundle.json").write_bytes(text)
    assert "bundle.json" in refusal(bundle, parts)


def test_a_sidecar_cut_anywhere_is_refused(bundle: Path, parts: list[Path]) -> None:
    whole = (bundle / "bundle.json").read_bytes()
    for length in range(0, len(whole) - 2, len(whole) // 12):
        (bundle / "bundle.json").write_bytes(whole[:length])
        assert "is not readable JSON" in refusal(bundle, parts)


def resealed(bundle: Path, name: str) -> None:
    """The hash of a file that was changed, as who wants to fool the program writes it."""
    file = bundle / "bundle.json"
    sidecar = json.loads(file.read_text())
    entry = {"sha256": sha256_of(bundle / name), "bytes": (bundle / name).stat().st_size}
    files = sidecar["formats"]["openvino"]["files"] if name.startswith("openvino") else sidecar["files"]
    files[name] = entry
    file.write_text(json.dumps(sidecar))


def test_a_bundle_that_scores_its_golden_photographs_otherwise_is_refused(bundle: Path, parts: list[Path]) -> None:
    scores = json.loads((bundle / "bundle.json").read_text())["golden"]["scores"]["float32"]
    edited(bundle, "golden.scores.bfloat16", [9.0, 9.0])  # of another precision than the format's
    assert predict(bundle, parts) != []
    edited(bundle, "golden.scores.float32", [scores[0], scores[1] * 1.01])
    sentence = refusal(bundle, parts, 3)
    assert "does not score its golden photographs as it did when it was exported: by openvino the largest" in sentence
    assert "is 0.0099, the tolerance 0.001;" in sentence
    done = run("--golden", "skip", "--", bundle, parts[0])
    assert done.returncode == 0
    edited(bundle, "formats.openvino.tolerance", 0.01)
    assert (
        run("--golden", "check", "--", bundle, parts[0]).stdout.split(b'"seconds"')[0]
        == done.stdout.split(b'"seconds"')[0]
    )


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def turned(data: bytes) -> bytes:
    return data[:-8] + bytes(value ^ 255 for value in data[-8:])


def longer_header(data: bytes) -> bytes:
    return struct.pack("<Q", 2**63) + data[8:]


def offsets_outside(data: bytes) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["bank"]["data_offsets"] = [2**40, 2**40 + header["bank"]["data_offsets"][1]]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def huge_shape(data: bytes) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["bank"]["shape"] = [2**31 - 1] * 8
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


DAMAGE: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("openvino/model.xml", cut),
    ("openvino/model.xml", lambda data: b""),
    ("openvino/model.xml", lambda data: b"<net>" * 100_000),
    ("openvino/model.bin", cut),
    ("openvino/model.bin", lambda data: b""),
    ("index.safetensors", cut),
    ("index.safetensors", lambda data: b"1234567"),
    ("index.safetensors", longer_header),
    ("index.safetensors", offsets_outside),
    ("index.safetensors", huge_shape),
    ("golden.safetensors", cut),
    ("golden.safetensors", longer_header),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGE)
def test_a_damaged_file_is_refused_whether_its_hash_fits_or_not(
    name: str, damage: Callable[[bytes], bytes], bundle: Path, parts: list[Path]
) -> None:
    (bundle / name).write_bytes(damage((bundle / name).read_bytes()))
    assert f"{name} of the bundle {bundle} is not the one that was exported" in refusal(bundle, parts)
    resealed(bundle, name)
    done = run(bundle, parts[0])
    assert done.returncode in (1, 2)
    assert len(done.stderr.decode().splitlines()) == 1


def test_one_bit_is_enough(bundle: Path, parts: list[Path]) -> None:
    for name in ("openvino/model.xml", "openvino/model.bin", "index.safetensors", "golden.safetensors"):
        file = bundle / name
        whole = file.read_bytes()
        file.write_bytes(turned(whole))
        assert "(its SHA-256 differs)" in refusal(bundle, parts)
        file.write_bytes(whole)


@pytest.mark.parametrize(
    "name", ["bundle.json", "openvino/model.xml", "openvino/model.bin", "index.safetensors", "golden.safetensors"]
)
def test_a_file_that_is_missing_is_named(name: str, bundle: Path, parts: list[Path]) -> None:
    (bundle / name).unlink()
    assert name in refusal(bundle, parts)
    (bundle / name).mkdir()
    assert name in refusal(bundle, parts)


def test_the_bundle_before_this_format_is_read(parts: list[Path], toy_bundle: Path, bundle: Path) -> None:
    edited(bundle, "format", "vqi-bundle/3")
    edited(bundle, "golden", ...)
    assert [line["score"] for line in predict(bundle, parts)] == [line["score"] for line in predict(toy_bundle, parts)]


def test_another_backend(tmp_path: Path, parts: list[Path]) -> None:
    (tmp_path / "bundle").mkdir()
    write_toy_bundle(tmp_path / "bundle", ("openvino", "openvino-fp16"))
    rounded, whole = (predict(tmp_path / "bundle", parts, "--backend", f"openvino{end}") for end in ("-fp16", ""))
    assert [line["score"] for line in rounded] != [line["score"] for line in whole]
    assert predict(tmp_path / "bundle", parts)[0]["score"] == whole[0]["score"]
    for name in ("onnxruntime", "openvino-int8"):
        assert name in refusal(tmp_path / "bundle", parts, 2, "--backend", name)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("bundle",),
        ("--threads", "many", "b", "c"),
        ("--implausible", "pass", "b", "c"),
        ("--golden", "pass", "b", "c"),
        ("--surprise", "b", "c"),
        ("--backend",),
    ],
)
def test_words_that_are_not_understood(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.startswith(b"vqi-native: ")


def noise(form: str, folder: Path, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 96, 3)).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(folder / f"whole.{form}")
    return (folder / f"whole.{form}").read_bytes()


@pytest.mark.parametrize("form", ["png", "jpg", "bmp", "tif"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_photographs_cut_anywhere_are_refused(form: str, mode: str, toy_bundle: Path, tmp_path: Path) -> None:
    whole = noise(form, tmp_path, mode)
    files = []
    for length in [*range(0, 64, 3), *range(64, len(whole) - 2, len(whole) // 20)]:
        files.append(tmp_path / f"{length}.{form}")
        files[-1].write_bytes(whole[:length])
    lines = predict(toy_bundle, files)
    assert [line["image"] for line in lines] == [str(file) for file in files]
    assert all("error" in line and "score" not in line for line in lines)


@pytest.mark.parametrize("form", ["png", "jpg", "bmp", "tif"])
def test_photographs_with_other_bytes_are_refused_or_scored(form: str, toy_bundle: Path, tmp_path: Path) -> None:
    """What is in a damaged file is anyone's guess; that the process lives is not."""
    random = np.random.default_rng(1)
    whole = noise(form, tmp_path)
    files = []
    for number in range(150):
        data = bytearray(whole)
        for at in random.integers(0, min(len(data), 700 if number % 2 else len(data)), 1 + number % 4):
            data[at] = random.integers(256)
        files.append(tmp_path / f"{number}.{form}")
        files[-1].write_bytes(data)
    lines = predict(toy_bundle, files)
    assert len(lines) == len(files)
    assert all(("error" in line) != ("score" in line) for line in lines)
    # Few bytes of a BMP are not pixels.
    assert sum("error" in line for line in lines) > (3 if form == "bmp" else 10)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(width: int, height: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_giant_photographs_are_refused_by_their_header(toy_bundle: Path, tmp_path: Path) -> None:
    jpeg = noise("jpg", tmp_path)
    frame = jpeg.index(b"\xff\xc0") + 5
    files = {
        "wide.png": bomb(2**31 - 1, 2**31 - 1, bytes(10)),
        "large.png": bomb(10_001, 10_001, bytes(10_000_000)),
        "long.png": bomb(1, 100_000_001, bytes(10)),
        "zero.png": bomb(0, 5, bytes(10)),
        "large.jpg": jpeg[:frame] + b"\xfd\xe8\xfd\xe8" + jpeg[frame + 4 :],
        "flat.jpg": jpeg[:frame] + b"\0\0\0\x50" + jpeg[frame + 4 :],
        "text.png": bomb(4, 4, bytes(20))[:33]
        + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(30_000_000)))
        + bomb(4, 4, bytes(20))[33:],
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    lines = predict(toy_bundle, [tmp_path / name for name in files])
    errors = {Path(line["image"]).name: line.get("error", "") for line in lines}
    for name in ("wide.png", "large.png", "long.png", "large.jpg"):
        assert "more than 100 megapixels; scale it down" in errors[name]
    assert "cannot be decoded" in errors["zero.png"]
    assert "cannot be decoded" in errors["flat.jpg"]
    assert errors["text.png"] == ""  # nobody unpacks it


def test_what_is_not_a_photograph(toy_bundle: Path, tmp_path: Path, parts: list[Path]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("<script>alert(1)</script>")
    odd = tmp_path / 'a "name"\n\x1b[31m.png'
    shutil.copy(parts[0], odd)
    files = [
        tmp_path / "folder",
        tmp_path / "missing.png",
        tmp_path / "empty.png",
        tmp_path / "text.jpg",
        odd,
        parts[1],
    ]
    done = run("--", toy_bundle, *files)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 2
    assert [line["image"] for line in lines] == [str(file) for file in files]
    assert ["error" in line for line in lines] == [True] * 4 + [False] * 2


def test_a_black_photograph_is_implausible(toy_bundle: Path, tmp_path: Path) -> None:
    Image.new("RGB", (96, 80)).save(tmp_path / "black.png")
    assert check_native(toy_bundle, [tmp_path / "black.png"]) >= 0
    done = run(toy_bundle, tmp_path / "black.png")
    assert done.returncode == 2
    (line,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert line["decision"] == "implausible"
    assert line["implausible"].startswith(f"{tmp_path}/black.png is not a plausible photograph of this set: its ")
    scored = run("--implausible", "score", toy_bundle, tmp_path / "black.png")
    assert scored.returncode == 0
    assert json.loads(scored.stdout)["decision"] in ("good", "defect")


def test_the_example_in_c(toy_bundle: Path, parts: list[Path], tmp_path: Path) -> None:
    done = run(toy_bundle, *parts, program="example")
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("plates by toy, a defect above ")
    assert [line.split(": ")[1].split(",")[0] for line in lines if line.startswith("/")] == ["good", "defect"] * 2
    assert sum(line.startswith("  from ") for line in lines) >= 2
    assert run(tmp_path, parts[0], program="example").returncode == 1


def test_the_example_in_c_sharp(toy_bundle: Path, parts: list[Path], tmp_path: Path) -> None:
    if not (shutil.which("mcs") and shutil.which("mono")) or "sanitized" in BUILD.name:
        pytest.skip("Mono (mono-mcs, mono-runtime) is not installed, or the library has sanitizers")
    source, program = ROOT / "native" / "examples" / "Score.cs", tmp_path / "Score.exe"
    subprocess.run(["mcs", f"-out:{program}", source], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(BUILD)}
    command = ["mono", program, toy_bundle, *parts]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    decisions = [line.split(": ")[1].split(",")[0] for line in done.stdout.splitlines() if line.startswith("/")]
    assert decisions == ["no defect", "defect"] * 2
    scores = [float(line.rpartition(" ")[2]) for line in done.stdout.splitlines() if line.startswith("/")]
    assert scores == pytest.approx([line["score"] for line in predict(toy_bundle, parts)], rel=1e-6)
