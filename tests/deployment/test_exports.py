"""Export formats: how they are found, which are refused, and what a reader does with those it does not know."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from strange_formats import Register, Strange, registering
from toy_bundle import photograph, write_toy_bundle
from vqi.deployment import exports
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.exports import ExportFormat, check_formats, export_formats, preferred
from vqi.deployment.exports.openvino import OpenVino
from vqi.deployment.graph_runtime import open_graph
from vqi.deployment.predictor import Prediction, Predictor
from vqi.platform.errors import BadInput, RunFailed

OURS = ("onnx", "openvino")
ALL = ("mlflow", "onnx", "openvino", "openvino-fp16", "openvino-int8", "torch-export", "torchscript")


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Register]:
    yield from registering(monkeypatch)


@pytest.fixture
def bundle(toy_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_bundle, tmp_path / "bundle"))


def scores(predictor: Predictor) -> list[float]:
    results = list(predictor.predict([photograph(33), photograph(34, defect=True)]))
    assert all(isinstance(result, Prediction) for result in results)
    return [result.score for result in results]  # type: ignore[union-attr]


def test_ours_are_found_and_state_what_they_are() -> None:
    formats = export_formats()
    assert tuple(formats) == ALL
    assert [one.name for one in preferred([formats[name] for name in OURS])] == ["openvino", "onnx"]
    for one in formats.values():
        assert one.summary
        assert one.files
        assert "cpu" in one.devices


def test_a_list_of_formats_is_checked_without_torch_and_without_a_runtime() -> None:
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'onnx', 'onnxruntime', 'openvino', 'onnxscript'), None))\n"
        "from vqi.deployment.exports import check_formats\n"
        "print([one.name for one in check_formats(('openvino', 'onnx'))])\n"
        "check_formats(('onnx',), writable=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "['openvino', 'onnx']\n", done.stderr
    assert done.stderr.splitlines()[-1].endswith(
        "BadInput: The export format onnx cannot be written here, for lack of onnx, onnxscript, onnxruntime; install "
        "that where the export step runs, or leave the format out of export.formats."
    )


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ((), r"export.formats is empty; name at least one of mlflow, onnx, openvino"),
        (("onnx", "onnx"), "names onnx more than once"),
        (("onnx", "opnvino"), "names 'opnvino', which is not an export format. Did you mean 'openvino'"),
    ],
)
def test_a_list_of_formats_that_makes_no_sense_is_refused(names: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        check_formats(names)


def test_a_format_of_another_package_is_one_of_the_formats(register: Register) -> None:
    register(Strange)
    assert list(export_formats()) == sorted([*ALL, "strange"])
    assert [one.name for one in check_formats(("strange", "onnx"), writable=True)] == ["strange", "onnx"]
    assert [one.name for one in preferred(list(export_formats().values()))][:2] == ["openvino", "onnx"]


def kind(**stated: object) -> type[ExportFormat]:
    return type("Another", (Strange,), stated)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (int, "does not name an ExportFormat; mend or remove its package"),
        ("text", "does not name an ExportFormat"),
        (kind(name="onnx"), "has the name of another export format, 'onnx'; rename it"),
        (kind(backend="openvino"), "has the backend of the export format 'openvino'"),
        (kind(files=("model.onnx",)), "writes 'model.onnx', which belongs to the export format 'onnx'"),
        (kind(files=("openvino/",)), "writes 'openvino/', which belongs to the export format 'openvino'"),
        (kind(files=()), "not whole: its files are not a tuple of names"),
        (kind(files=("../etc/passwd",)), "its file '../etc/passwd' cannot be in a bundle"),
        (kind(files=("bundle.json",)), "its file 'bundle.json' cannot be in a bundle"),
        (kind(name="Two words"), "its name is 'Two words'"),
        (kind(install="a b"), "its install is 'a b'"),
        (kind(precision="half precision"), "its precision is 'half precision'"),
        (kind(tolerance=0.0), "its tolerance is 0.0"),
        (kind(backend="auto"), "its backend is 'auto'"),
        (type("Bare", (ExportFormat,), {"name": "bare"}), "it lacks open, write"),
        (
            type("Bare", (ExportFormat,), {"name": "bare", "open": Strange.open, "write": Strange.write}),
            "it does not state summary",
        ),
    ],
)
def test_an_entry_point_that_is_not_a_format_is_named(register: Register, value: object, sentence: str) -> None:
    register(value)
    with pytest.raises(BadInput, match=sentence) as refused:
        export_formats()
    assert str(refused.value).startswith("The entry point point = module:")


def test_an_entry_point_that_cannot_be_loaded_is_named(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        raise ImportError("no module named missing")

    register()
    point = SimpleNamespace(name="broken", value="missing:Format", load=load)
    monkeypatch.setattr(exports, "entry_points", lambda group: [point])
    with pytest.raises(
        BadInput, match=r"broken = missing:Format of the group vqi.exports cannot be loaded \(ImportErr"
    ):
        export_formats()


@pytest.mark.parametrize("name", OURS)
def test_a_bundle_may_hold_one_format_alone(name: str, tmp_path: Path, toy_bundle: Path) -> None:
    write_toy_bundle(tmp_path, [name])
    backend = export_formats()[name].backend
    predictor = Predictor(tmp_path)
    assert predictor.graph.backend == backend
    assert scores(predictor) == pytest.approx(scores(Predictor(toy_bundle, backend)))
    (other,) = (one.backend for one in export_formats().values() if one.name != name and one.name in OURS)
    with pytest.raises(BadInput, match=f"holds nothing for the backend {other}; it holds {name} for {backend}"):
        Predictor(tmp_path, other)


def test_a_reader_without_the_package_ignores_its_format(register: Register, tmp_path: Path) -> None:
    register(Strange)
    write_toy_bundle(tmp_path, ["onnx", "strange"])
    assert (tmp_path / "strange/mean.txt").is_file()
    expected = scores(Predictor(tmp_path, "strange-runtime"))
    assert Predictor(tmp_path).graph.backend == "onnxruntime"

    register()
    (tmp_path / "strange/graph.bin").unlink()
    assert scores(Predictor(tmp_path)) == pytest.approx(expected)
    assert list(read_sidecar(tmp_path).formats) == ["onnx", "strange"]
    with pytest.raises(BadInput, match=r"The backend strange-runtime is not installed here; install vqi-strange\."):
        Predictor(tmp_path, "strange-runtime")
    register(Strange)
    with pytest.raises(BadInput, match=r"lacks its file strange/graph\.bin of its format strange"):
        Predictor(tmp_path)


def test_a_format_of_a_later_version_may_say_more(bundle: Path) -> None:
    value = json.loads((bundle / "bundle.json").read_text())
    value["formats"]["engine"] = {
        **value["formats"]["onnx"],
        "backend": "engine",
        "precision": "int8",
        "install": "vqi[engine]",
        "files": {"engine/plan": {"sha256": "0" * 64, "bytes": 1}},
        "calibration": {"kind": "own"},
    }
    (bundle / "bundle.json").write_text(json.dumps(value))
    sidecar = read_sidecar(bundle)
    assert json.loads(sidecar.model_dump_json())["formats"]["engine"] == value["formats"]["engine"]
    assert open_graph(bundle, sidecar).backend == "openvino"


def test_a_reader_that_can_run_nothing_says_what_to_install(register: Register, tmp_path: Path) -> None:
    register(Strange)
    write_toy_bundle(tmp_path, ["strange"])
    register()
    with pytest.raises(BadInput) as refused:
        Predictor(tmp_path)
    assert str(refused.value) == (
        f"The bundle {tmp_path} holds the graph as strange, and nothing here runs it; install vqi-strange (strange)."
    )


def test_runtimes_that_are_not_installed_are_passed_over(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenVino, "missing_to_open", lambda self: ["openvino"])
    assert Predictor(bundle).graph.backend == "onnxruntime"
    with pytest.raises(BadInput, match=r"The backend openvino is not installed here; install vqi\[predict\]"):
        Predictor(bundle, "openvino")
    monkeypatch.setattr(ExportFormat, "missing_to_open", lambda self: ["any"])
    with pytest.raises(BadInput) as refused:
        Predictor(bundle)
    assert str(refused.value) == (
        f"The bundle {bundle} holds the graph as onnx and openvino, and nothing here runs them; install vqi[predict] "
        "(onnx, openvino)."
    )


@pytest.mark.parametrize("name", OURS)
def test_a_graph_that_is_damaged_under_its_own_hash_is_refused_by_its_format(tmp_path: Path, name: str) -> None:
    """What a signature would find and a hash cannot: the file says what its sidecar says, and is not a graph."""
    from vqi.platform.files import sha256_of

    write_toy_bundle(tmp_path, [name])
    file = export_formats()[name].files[0]
    (tmp_path / file).write_bytes(b"not a graph")
    value = json.loads((tmp_path / "bundle.json").read_text())
    value["formats"][name]["files"][file] = {"sha256": sha256_of(tmp_path / file), "bytes": 11}
    (tmp_path / "bundle.json").write_text(json.dumps(value))
    with pytest.raises(RunFailed, match=f"The format {name} of the bundle .* cannot be opened") as refused:
        Predictor(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_runtime_that_answers_something_else_is_refused(register: Register, tmp_path: Path) -> None:
    class Short(Strange):
        def open(self, *args: object) -> object:  # type: ignore[override]
            infer = super().open(*args)  # type: ignore[arg-type]
            return lambda images: tuple(values[:-1] for values in infer(images))

    register(Strange)
    write_toy_bundle(tmp_path, ["strange"])
    register(Short)
    with pytest.raises(
        RunFailed, match=r"strange-runtime answered a batch of 2 with scores of shape \[1\] and maps of"
    ):
        scores(Predictor(tmp_path))


OLD = Path(__file__).parent / "vqi-bundle-2"


@pytest.mark.parametrize("backend", ["auto", "openvino", "onnxruntime"])
def test_a_bundle_of_the_format_before_this_one_still_predicts(backend: str) -> None:
    """A folder that the export of that time wrote, with the scores that it predicted then."""
    assert json.loads((OLD / "bundle.json").read_text())["format"] == "vqi-bundle/2"
    assert scores(Predictor(OLD, backend)) == pytest.approx([0.0289185, 0.7184416], rel=1e-4)


def test_a_bundle_of_the_format_before_this_one_is_read_into_today_s_record(tmp_path: Path) -> None:
    sidecar = read_sidecar(OLD)
    assert [(name, *entry.files) for name, entry in sidecar.formats.items()] == [
        ("onnx", "model.onnx"),
        ("openvino", "openvino/model.xml", "openvino/model.bin"),
    ]
    assert sidecar.formats["onnx"].notes == {"opset": 20}
    assert sidecar.formats["onnx"].largest_deviation == pytest.approx(3.8e-4, rel=0.01)
    assert sidecar.formats["openvino"].latency_ms is None
    assert sidecar.parity.images == 7

    folder = Path(shutil.copytree(OLD, tmp_path / "bundle"))
    value = json.loads((folder / "bundle.json").read_text())
    for change, sentence in (
        ({"formats": {}}, "malformed at formats"),
        ({"files": {}}, "does not name index.safetensors"),
        ({"files": {"index.safetensors": value["files"]["index.safetensors"]}}, "does not name model.onnx"),
        ({"graph": {**value["graph"], "precision": "bfloat16"}}, "malformed at graph.precision"),
        ({"format": "vqi-bundle/3"}, "malformed at"),
    ):
        (folder / "bundle.json").write_text(json.dumps(value | change))
        with pytest.raises(BadInput, match=sentence):
            read_sidecar(folder)
    (folder / "bundle.json").write_text(json.dumps(value))
    (folder / "openvino/model.bin").write_bytes(b"")
    with pytest.raises(BadInput, match=r"openvino/model\.bin of the bundle .*, of its format openvino, is not the one"):
        read_sidecar(folder)
