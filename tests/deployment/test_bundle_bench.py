from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vqi.deployment.bench import choose, measure
from vqi.deployment.bench_record import Machine, Setting, Timing, machine_in_use, read_bench, write_bench
from vqi.deployment.bundle import bundle_version, read_sidecar
from vqi.deployment.graph_runtime import GraphRuntime
from vqi.deployment.sidecar import Accuracy, FormatEntry, Sidecar
from vqi.platform.errors import BadInput, RunFailed

MACHINE = Machine(processor="Test", cpus=2, load=0.5)


def timing(backend: str, p95: float, rate: float, processor: float = 1.0) -> Timing:
    return Timing(
        setting=Setting(backend=backend, threads=1, batch=1),
        format={"onnxruntime": "onnx"}.get(backend, backend),
        precision="float32",
        batches=9,
        p50_ms=p95,
        p95_ms=p95,
        p99_ms=p95,
        images_per_second=rate,
        processor_ms=processor,
    )


def test_every_setting_is_measured_and_the_file_is_read_again(toy_bundle: Path, tmp_path: Path) -> None:
    record = measure(toy_bundle, MACHINE, threads=[1, 0], batches=[1, 3], seconds=0.01)
    assert {(one.setting.backend, one.setting.threads, one.setting.batch) for one in record.timings} == {
        (backend, threads, batch) for backend in ("openvino", "onnxruntime") for threads in (1, 0) for batch in (1, 3)
    }
    assert len({one.batches for one in record.timings}) == 1  # in turns
    for one in record.timings:
        assert 0 < one.p50_ms <= one.p95_ms <= one.p99_ms
        assert one.batches >= 5
    assert record.version == bundle_version(toy_bundle)
    assert record.best in {one.setting for one in record.timings}
    write_bench(tmp_path / "bench.json", record)
    assert read_bench(tmp_path / "bench.json") == record
    (tmp_path / "bench.json").write_text("{}")
    with pytest.raises(BadInput, match=r"measure again \(vqi bench --save\)"):
        read_bench(tmp_path / "bench.json")


def test_a_setting_that_fails_is_named_and_the_others_go_on(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = GraphRuntime.run

    def limited(graph: GraphRuntime, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if len(images) > 2:
            raise RunFailed("There is no room.")
        return run(graph, images)

    monkeypatch.setattr(GraphRuntime, "run", limited)
    record = measure(toy_bundle, MACHINE, backends=["openvino"], threads=[1], batches=[1, 3], seconds=0.01)
    assert [one.setting.batch for one in record.timings] == [1]
    assert [(one.setting.batch, one.reason) for one in record.not_timed] == [(3, "There is no room.")]
    with pytest.raises(RunFailed, match="No setting could be run: There is no room"):
        measure(toy_bundle, MACHINE, backends=["openvino"], threads=[1], batches=[3], seconds=0.01)


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"backends": ["openvine"]}, "Did you mean 'openvino'"),
        ({"backends": ["openvino-fp16"]}, "holds nothing for the backend openvino-fp16"),
        ({"threads": [-1]}, "-1 threads cannot be run"),
        ({"batches": [0]}, "A batch of 0 cannot be run"),
        ({"seconds": 0.0}, "The time for a setting is 0 s"),
        ({"device": "tpu"}, "tpu"),
    ],
)
def test_a_choice_that_cannot_be_measured_is_refused(toy_bundle: Path, choice: dict, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        measure(toy_bundle, MACHINE, **choice)


def test_the_best_keeps_the_bound_and_of_two_alike_the_one_that_works_less(toy_bundle: Path) -> None:
    sidecar = read_sidecar(toy_bundle)
    timings = [timing("openvino", 20, 100, 3.0), timing("onnxruntime", 30, 101, 4.0)]
    assert choose(timings, sidecar, False).backend == "openvino"
    assert choose([timings[0], timing("onnxruntime", 30, 120)], sidecar, False).backend == "onnxruntime"
    assert choose([timings[0], timing("onnxruntime", 30, 120)], sidecar, False, latency_ms=25).backend == "openvino"
    with pytest.raises(RunFailed, match=r"No setting keeps a 95th percentile of 5 ms: the quickest has 20\.0 ms"):
        choose(timings, sidecar, False, latency_ms=5)


def test_a_format_with_thresholds_of_another_is_chosen_by_name_alone(toy_bundle: Path) -> None:
    sidecar = unsure(read_sidecar(toy_bundle), "onnx")
    timings = [timing("openvino", 20, 100), timing("onnxruntime", 10, 300)]
    assert choose(timings, sidecar, named=False).backend == "openvino"
    assert choose(timings, sidecar, named=True).backend == "onnxruntime"
    assert choose(timings[1:], sidecar, named=False).backend == "onnxruntime"


def unsure(sidecar: Sidecar, name: str) -> Sidecar:
    accuracy = Accuracy(image_auroc=1.0, pixel_auroc=None, aupro=None, accuracy=1.0, images=4, differ=0)
    entry: FormatEntry = sidecar.formats[name].model_copy(update={"accuracy": accuracy})
    return sidecar.model_copy(update={"formats": {**sidecar.formats, name: entry}})


def test_the_machine_has_a_name() -> None:
    machine = machine_in_use()
    assert machine.processor
    assert machine.cpus >= 1
