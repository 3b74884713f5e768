"""The examples run as their texts say, and packages of strangers add a method, a layout and an export format without a
change to this one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from step_calls import ingest
from toy_bundle import photograph
from vqi.dataset.generator import generate
from vqi.dataset.layouts import layouts
from vqi.deployment.bundle import read_sidecar
from vqi.platform.errors import BadInput

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


def run(*command: str | Path, path: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command, with a further folder of packages before all others."""
    folders = [str(path)] if path else []
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "VQI_CATALOG")
    }
    environment["PYTHONPATH"] = os.pathsep.join([*folders, *filter(None, [environment.get("PYTHONPATH", "")])])
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=environment, cwd=cwd, timeout=900
    )


@pytest.mark.slow
def test_predict_decides_on_files(toy_bundle: Path, tmp_path: Path) -> None:
    for name, defect in (("good.png", False), ("bad.png", True)):
        Image.fromarray(photograph(3, defect)).save(tmp_path / name)
    script = [sys.executable, EXAMPLES / "predict.py", toy_bundle]
    done = run(*script, tmp_path / "good.png", tmp_path / "bad.png")
    assert done.returncode == 1, done.stderr
    head, good, bad = done.stdout.splitlines()
    assert head.startswith("threshold ")
    assert good.split()[0] == "good"
    assert bad.split()[0] == "defect"
    x1, y1, x2, y2 = map(int, bad.split()[-1].split(","))
    assert x1 < 50 < x2
    assert y1 < 40 < y2

    missing = run(*script, tmp_path / "good.png", tmp_path / "none.png")
    assert missing.returncode == 2
    assert missing.stdout.splitlines()[-1].startswith("unreadable")
    wrong = run(sys.executable, EXAMPLES / "predict.py", tmp_path, tmp_path / "good.png")
    assert wrong.returncode == 1
    assert len(wrong.stderr.splitlines()) == 1


def test_stream_decides_frame_by_frame(toy_bundle: Path) -> None:
    done = run(sys.executable, EXAMPLES / "stream.py", toy_bundle)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"frame {number}" for number in range(5)]
    assert all(re.fullmatch(r"frame \d: \w+, score -?\d+\.\d{4}, \d+ ms", line) for line in lines), lines


def test_stream_reads_no_frame_before_the_last_is_decided(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from stream import decisions

    delivered = 0

    def camera():
        nonlocal delivered
        for frame in (photograph(1), photograph(2, defect=True), np.zeros((80, 96, 3), np.float32)):
            delivered += 1
            yield frame

    seen = []
    for number, (result, seconds) in enumerate(decisions(toy_bundle, camera()), start=1):
        assert delivered == number
        assert seconds > 0
        seen.append(getattr(result, "decision", "unreadable"))
    assert seen == ["good", "defect", "unreadable"]


def install(example: str, made: Path) -> Path:
    """A folder with an example's package as pip installs it, built from its own pyproject.toml without an index."""
    source = made / "source"
    # A copy: building leaves files beside the sources.
    for path in (EXAMPLES / example).rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and ".egg-info" not in str(path):
            (source / path.relative_to(EXAMPLES / example)).parent.mkdir(parents=True, exist_ok=True)
            (source / path.relative_to(EXAMPLES / example)).write_bytes(path.read_bytes())
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    built = run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", made, source)
    assert built.returncode == 0, built.stderr
    (wheel,) = made.glob("*.whl")
    installed = run(*pip, "install", "--no-deps", "--no-index", "--target", made / "site", wheel)
    assert installed.returncode == 0, installed.stderr
    return made / "site"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's method as pip installs it."""
    return install("method", tmp_path_factory.mktemp("method"))


@pytest.fixture(scope="module")
def installed_format(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install("export_format", tmp_path_factory.mktemp("format"))


@pytest.fixture(scope="module")
def installed_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's layout as pip installs it."""
    return install("layout", tmp_path_factory.mktemp("layout"))


def vqi(*arguments: str | Path, site: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-c", "from vqi_pipelines.command import main; main()", *arguments, path=site, cwd=cwd)


def test_an_installed_method_is_one_of_the_methods(installed: Path) -> None:
    listed = vqi("methods", "--json", site=installed)
    assert listed.returncode == 0, listed.stderr
    assert {"colour", "patchcore"} <= {method["name"] for method in json.loads(listed.stdout)}
    described = vqi("methods", "colour", "--no-cost", site=installed)
    assert "cell = 8    (whole number, 1 to 64)" in described.stdout
    assert "none; it is trained from scratch" in described.stdout

    refused = vqi(
        "run",
        "--set",
        "data.source=none",
        "--set",
        "method.name=colour",
        "--set",
        "method.settings.cel=4",
        site=installed,
    )
    assert refused.returncode == 2
    assert "method.settings.cel is not a setting of colour. Did you mean 'cell'?" in refused.stderr
    without = vqi("run", "--set", "data.source=none", "--set", "method.name=colour")
    assert without.returncode == 2
    assert "'colour', which is not a method" in without.stderr


@pytest.mark.slow
def test_an_installed_method_runs_from_photographs_to_a_bundle(installed: Path, tmp_path: Path) -> None:
    generate(tmp_path / "parts", seed=1, normals=12, test_normals=4, defects_each=2, size=(128, 128))
    values = [
        f"data.source={tmp_path / 'parts'}",
        "method.name=colour",
        "image.size=128",
        "threshold.false_reject_rate=0.1",
    ]
    options = [item for value in values for item in ("--set", value)]
    done = vqi("run", *options, "--out", tmp_path / "runs", "--json", site=installed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert 0 <= summary["metrics"]["image_auroc"] <= 1
    assert summary["metrics"]["pixel_auroc"] > 0.7
    assert "largest deviation" in done.stderr  # the parity gate compared the exported graph with the detector

    # The bundle needs the method no more.
    predicted = vqi(
        "predict",
        summary["bundle"],
        tmp_path / "parts" / "test",
        "--out",
        tmp_path / "predictions",
        "--json",
        cwd=tmp_path,
    )
    assert predicted.returncode == 0, predicted.stderr
    value = json.loads(predicted.stdout)
    assert value["bundle"]["method"] == "colour"
    assert value["counts"]["images"] == 14


def test_an_installed_format_is_one_of_the_export_formats(installed_format: Path) -> None:
    program = """
from vqi.deployment.exports import check_formats
from vqi.platform.errors import BadInput
try:
    print([one.files for one in check_formats(["onnx", "onnx-float16"], writable=True)])
except BadInput as refused:
    print(refused)
"""
    known = run(sys.executable, "-c", program, path=installed_format)
    assert known.stdout == "[('model.onnx',), ('model-float16.onnx',)]\n", known.stderr
    unknown = run(sys.executable, "-c", program)
    assert unknown.stdout.startswith("export.formats names 'onnx-float16', which is not an export format. Known: ")


@pytest.mark.slow
def test_an_installed_format_is_exported_and_predicts_and_readers_without_it_use_the_others(
    installed_format: Path, tmp_path: Path
) -> None:
    generate(tmp_path / "parts", seed=1, normals=12, test_normals=4, defects_each=2, size=(128, 128))
    values = [
        f"data.source={tmp_path / 'parts'}",
        "method.name=dfm",
        "backbone.name=filterbank",
        "image.size=128",
        "threshold.false_reject_rate=0.1",
        "export.formats=[onnx,onnx-float16]",
    ]
    options = [item for value in values for item in ("--set", value)]
    done = vqi("run", *options, "--out", tmp_path / "runs", "--json", cwd=tmp_path, site=installed_format)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)

    bundle = Path(summary["bundle"])
    sidecar = read_sidecar(bundle)
    assert list(sidecar.formats) == ["onnx", "onnx-float16"]
    half, whole = sidecar.formats["onnx-float16"], sidecar.formats["onnx"]
    assert (half.precision, half.tolerance, whole.tolerance) == ("float16", 0.02, 1e-3)
    assert 1e-6 < half.largest_deviation < 0.02
    assert half.size_mib < 0.8 * whole.size_mib
    assert sidecar.versions["vqi-onnx-float16"] == "0.1.0"

    def predictions(site: Path | None, *more: str) -> subprocess.CompletedProcess[str]:
        out = tmp_path / "predictions"
        return vqi("predict", bundle, tmp_path / "parts/test", "--out", out, "--json", *more, site=site, cwd=tmp_path)

    with_package = predictions(installed_format, "--backend", "onnx-float16")
    assert with_package.returncode == 0, with_package.stderr
    without_package = predictions(None)
    assert without_package.returncode == 0, without_package.stderr
    first, second = json.loads(with_package.stdout), json.loads(without_package.stdout)
    assert (first["backend"], second["backend"]) == ("onnx-float16", "onnxruntime")
    for one, other in zip(first["predictions"], second["predictions"], strict=True):
        assert one["score"] == pytest.approx(other["score"], rel=0.05)
    refused = predictions(None, "--backend", "onnx-float16")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].endswith(
        "The backend onnx-float16 is not installed here; install vqi-onnx-float16."
    )


@pytest.fixture(scope="module")
def station_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs and the table of an inspection station: 20 good parts, 6 with an outline each, one that is open."""
    folder = tmp_path_factory.mktemp("export") / "line 4"
    (folder / "frames").mkdir(parents=True)
    lines = ["file,serial,verdict,defect,outlines,operator"]
    for number in range(27):
        defect = 20 <= number < 26
        Image.fromarray(photograph(number, defect)).save(folder / "frames" / f"{number:02d}.png")
        verdict = "ng,blob" if defect else "open," if number == 26 else "ok,"
        outline = '"40,30 60,30 60,50 40,50"' if defect else ""
        lines.append(f"frames\\{number:02d}.png,P{number // 2},{verdict},{outline},smith")
    (folder / "inspections.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return folder


def test_an_installed_layout_is_checked(installed_layout: Path, station_export: Path, tmp_path: Path) -> None:
    done = vqi("check", station_export, site=installed_layout, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "note: The layout is station: it has inspections.csv of an inspection station." in done.stdout
    assert "named by the layout; photographs of one stay together." in done.stdout
    assert "The masks of 6 photographs are drawn from annotations." in done.stdout
    assert "inspections.csv" not in re.sub(r"The layout is station.*", "", done.stdout)  # it was read, not left out
    assert "The set passes: 27 images" in done.stdout

    # Without the package its name is unknown, and the layout too.
    without = vqi("check", station_export, "--set", "data.layout=station", cwd=tmp_path)
    assert without.returncode == 2
    assert "data.layout is 'station'. Known: auto, coco, folders, " in without.stderr
    unknown = vqi("check", station_export, cwd=tmp_path)
    assert unknown.returncode == 2
    assert "The layout of the source is not recognised" in unknown.stderr


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (
            "../photos/1.png,P1,ok,,",
            "inspections.csv, line 2: inspections.csv names '../photos/1.png', which leads out",
        ),
        ("/etc/passwd,P1,ok,,", "inspections.csv, line 2: inspections.csv names the absolute path '/etc/passwd'"),
        ("frames/9.png,P1,ok,,", "and the source has no file 'frames/9.png'."),
        ("frames/0.png,P1,maybe,,", "inspections.csv, line 2: the verdict is 'maybe'; it is ok, ng or open."),
        ('frames/0.png,P1,ng,cut,"a,b"', "line 2: the outline 'a,b' is not of pairs x,y of pixels."),
        (
            "frames/0.png,P1,ng,cut,1;2",
            "The reader of layout station returned for the photograph 'frames/0.png' a polygon whose points are not "
            "pairs of numbers; mend",
        ),
        (
            'frames/0.png,P1,ng,cut,"900,10 950,10 950,20"\nframes/1.png,P2,ok,,',
            "The photograph frames/0.png (layout station) has a polygon off the photograph: it lies at x 900 to 950",
        ),
        (
            "frames/0.png,P1,ok,,\nframes/0.png,P1,ok,,",
            "The reader of layout station returned the photograph frames/0.png twice; mend the source or the reader.",
        ),
    ],
)
def test_an_installed_layout_refuses_bad_rows(
    installed_layout: Path, tmp_path: Path, row: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(installed_layout))
    layouts.cache_clear()
    (tmp_path / "set" / "frames").mkdir(parents=True)
    for number in range(2):
        Image.fromarray(photograph(number)).save(tmp_path / "set" / "frames" / f"{number}.png")
    (tmp_path / "set" / "inspections.csv").write_text(f"file,serial,verdict,defect,outlines\n{row}\n")
    try:
        with pytest.raises(BadInput) as refused:
            ingest(
                name="x",
                source=str(tmp_path / "set"),
                layout="auto",
                mask_suffix="_mask",
                calibration_fraction=None,
                seed=0,
                dataset=tmp_path / "dataset",
            )
    finally:
        layouts.cache_clear()
    assert sentence in str(refused.value)
    assert not (tmp_path / "dataset").exists()


@pytest.mark.slow
def test_an_installed_layout_runs_from_photographs_to_a_bundle(
    installed_layout: Path, station_export: Path, tmp_path: Path
) -> None:
    values = [
        f"data.source={station_export}",
        "data.layout=station",
        "backbone.name=filterbank",
        "image.size=96",
        "threshold.false_reject_rate=0.1",
    ]
    options = [item for value in values for item in ("--set", value)]
    done = vqi("run", *options, "--out", tmp_path / "runs", "--json", site=installed_layout, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["metrics"]["image_auroc"] > 0.9
    assert summary["metrics"]["pixel_auroc"] > 0.9

    # The bundle needs the layout no more.
    predicted = vqi("predict", summary["bundle"], station_export / "frames", "--out", "seen", "--json", cwd=tmp_path)
    assert predicted.returncode == 0, predicted.stderr
    assert json.loads(predicted.stdout)["counts"]["images"] == 27
