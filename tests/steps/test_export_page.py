from __future__ import annotations

from pathlib import Path

from vqi.deployment.bench_record import Machine
from vqi.deployment.bundle import read_sidecar
from vqi.deployment.sidecar import Accuracy, Deviation, LeftOut, Sidecar
from vqi.evaluation.report import FORMATS_AFTER, FORMATS_BEFORE
from vqi.steps.export.page import bundle_page, complete_report, format_figures, format_metrics, rows

MACHINE = Machine(processor="<b>Test</b>", cpus=2, load=0.5)


def with_left_out(bundle: Path) -> Sidecar:
    accuracy = Accuracy(image_auroc=0.9, pixel_auroc=None, aupro=None, accuracy=0.9, images=46, differ=3)
    left = LeftOut(
        reason="AUPRO falls from 0.9 to <script>",
        size_mib=2.94,
        latency_ms=9.72,
        latency_8_ms=None,
        deviations=[
            Deviation(batch=1, score=0.01, map=0.04, flipped=1),
            Deviation(batch=5, score=0.02, map=0.03, flipped=0),
        ],
        accuracy=accuracy,
    )
    return read_sidecar(bundle).model_copy(update={"left_out": {"openvino-int8": left}})


def test_every_format_has_its_figures_and_what_was_left_out_its_reason(toy_bundle: Path) -> None:
    sidecar = with_left_out(toy_bundle)
    inside, _, left = rows(sidecar)
    assert (inside.name, inside.backend, inside.one, inside.eight) == ("onnx", "onnxruntime", "1.0", "-")
    assert (inside.deviation, inside.differ) == ("3.0e-06", "0 of 1")
    assert (left.name, left.backend, left.size, left.one, left.eight) == (
        "openvino-int8",
        "left out",
        "2.9",
        "9.7",
        "-",
    )
    assert (left.deviation, left.differ) == ("4.0e-02", "3 of 46")
    assert list(format_figures(sidecar)) == ["onnx", "openvino"]
    assert format_figures(sidecar)["onnx"].endswith("deviation 3.0e-06, decisions that differ: 0 of 1")


def test_the_page_escapes_what_comes_from_elsewhere(toy_bundle: Path) -> None:
    page = bundle_page(with_left_out(toy_bundle), MACHINE)
    assert "AUPRO falls from 0.9 to &lt;script&gt;" in page
    assert "<script" not in page
    assert "&lt;b&gt;Test" in page
    assert "At most 1 of 9 normals is rejected." in page


def test_the_report_has_the_figures_of_each_format_where_it_says_that_none_is_measured(
    toy_bundle: Path, tmp_path: Path
) -> None:
    sidecar, report = with_left_out(toy_bundle), tmp_path / "report.html"
    report.write_text(f"<h1>plates</h1>{FORMATS_BEFORE}Not measured yet.{FORMATS_AFTER}<h2>Use it</h2>")
    page = complete_report(report, sidecar, MACHINE)
    assert page.startswith('<h1>plates</h1><div class="wide">')
    assert page.endswith("</p><h2>Use it</h2>")
    assert "<td>onnx</td>" in page
    assert "Not measured yet" not in page
    assert "<script" not in page
    assert complete_report(tmp_path / "older", sidecar, MACHINE) == bundle_page(sidecar, MACHINE)


def test_formats_inside_have_their_figures_as_numbers(toy_bundle: Path) -> None:
    metrics = format_metrics(with_left_out(toy_bundle))
    assert metrics["format.onnx.latency_ms"] == 1.0
    assert (metrics["format.onnx.deviation"], metrics["format.onnx.differing_share"]) == (3e-6, 0)
    assert not any("latency_8_ms" in name or "int8" in name for name in metrics)
