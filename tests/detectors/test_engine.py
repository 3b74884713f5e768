"""The engine of a network that learns no more: the same numbers as torch, and the same whatever is beside an image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from every_method import BACKBONE, small
from vqi.detectors.compute import to_device
from vqi.detectors.engine import Engine
from vqi.detectors.engine_record import GRAPH, GRAPH_FILES
from vqi.detectors.interface import Detector
from vqi.detectors.network_graph import NetworkGraph, write_engine
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings, method_names
from vqi.detectors.storage import load_network, save_network
from vqi.platform.devices import Compute, bfloat16_instructions
from vqi.platform.errors import BadInput

# On the processor, whatever this machine has.
CPU = Compute(device="cpu")
BFLOAT16 = Compute(device="cpu", precision="bfloat16")


def photographs(count: int = 3, size: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.nn.functional.interpolate(
        torch.rand(count, 3, size // 8, size // 8, generator=generator), size=(size, size), mode="bilinear"
    )


def made(method: str = "patchcore", backbone: BackboneSettings = BACKBONE) -> Detector:
    return to_device(create(method, small(method), backbone, (64, 64)), CPU)


def values(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


@pytest.mark.slow
@pytest.mark.parametrize("method", method_names())
def test_every_method_gives_the_numbers_of_torch(method: str, tmp_path: Path) -> None:
    detector, images = made(method), photographs(5)
    engine = write_engine(detector, tmp_path, CPU, images[:2])
    save_network(detector, tmp_path, {}, engine)
    assert engine.name == "openvino", engine.sentence
    assert set(engine.files) == set(GRAPH_FILES)
    loaded = to_device(load_network(tmp_path), CPU)
    assert loaded.engine
    with torch.inference_mode():
        embedding = loaded.embedding(images)
        found = (embedding,) if loaded.engine.embeds else loaded.scores(embedding, {})
        expected = NetworkGraph(detector)(images)
    for value, wanted in zip(values(found), values(expected), strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_an_image_has_the_same_embedding_alone_in_a_batch_and_on_any_number_of_streams(tmp_path: Path) -> None:
    images = photographs(5)
    assert write_engine(made(), tmp_path, CPU, images[:2]).name == "openvino"
    together = Engine(tmp_path / GRAPH, "float32", True, streams=2).embedding(images)
    single = Engine(tmp_path / GRAPH, "float32", True, streams=1)
    assert torch.equal(torch.cat([single.embedding(image[None]) for image in images]), together)


def test_another_process_gives_the_same_bits(tmp_path: Path) -> None:
    images = photographs(4)
    assert write_engine(made(), tmp_path, CPU, images[:2]).name == "openvino"
    torch.save(images, tmp_path / "images.pt")
    script = (
        "import sys, torch; from pathlib import Path; from vqi.detectors.engine import Engine\n"
        "folder = Path(sys.argv[1])\n"
        "images = torch.load(folder / 'images.pt')\n"
        "torch.save(Engine(folder / 'graph.xml', 'float32', True).embedding(images), folder / 'other.pt')\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, str(tmp_path)], check=True)
    assert torch.equal(torch.load(tmp_path / "other.pt"), Engine(tmp_path / GRAPH, "float32", True).embedding(images))


def test_the_same_network_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write_engine(made(), tmp_path / name, CPU, photographs(2))
    for name in GRAPH_FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    # Nothing of the machine it was made on.
    assert str(Path(__file__).parents[2]) not in (tmp_path / "one" / GRAPH).read_text()


@pytest.mark.skipif(not bfloat16_instructions(), reason="this processor has no bfloat16 instructions")
def test_bfloat16_is_bfloat16(tmp_path: Path) -> None:
    detector, images = made(), photographs(3)
    engine = write_engine(detector, tmp_path, BFLOAT16, images[:2])
    assert (engine.name, engine.precision) == ("openvino", "bfloat16")
    with torch.inference_mode():
        expected = detector.embed(images)
    found = Engine(tmp_path / GRAPH, "bfloat16", True).embedding(images)
    deviation = float((found - expected).abs().max() / expected.abs().max())
    assert 1e-4 < deviation < 0.1


@pytest.mark.parametrize(
    ("compute", "backbone", "reason"),
    [
        (Compute(device="cpu", engine="torch"), BACKBONE, "compute.engine is torch"),
        (Compute(device="cpu", precision="float16"), BACKBONE, "OpenVINO has no float16 on processors"),
        (BFLOAT16, BackboneSettings(name="filterbank"), "the filter bank has no precision to lose"),
    ],
)
def test_where_torch_runs_the_network_the_record_says_why(
    tmp_path: Path, compute: Compute, backbone: BackboneSettings, reason: str
) -> None:
    engine = write_engine(made(backbone=backbone), tmp_path, compute, photographs(2))
    assert (engine.name, engine.reason, engine.files) == ("torch", reason, {})
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_was_asked_for_and_cannot_be_is_refused(tmp_path: Path) -> None:
    compute = Compute(device="cpu", engine="openvino", precision="float16")
    with pytest.raises(
        BadInput, match=r"compute.engine is openvino, but OpenVINO has no float16 .*use compute.engine=auto"
    ):
        write_engine(made(), tmp_path, compute, photographs(2))


def test_a_network_that_openvino_computes_otherwise_stays_with_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Engine._run
    monkeypatch.setattr(Engine, "_run", lambda self, images: tuple(value * 1.01 for value in run(self, images)))
    engine = write_engine(made(), tmp_path, CPU, photographs(2))
    assert engine.name == "torch"
    assert engine.reason.startswith("its embedding on OpenVINO differs from torch's by 0.01 ")
    assert list(tmp_path.iterdir()) == []


def test_a_network_runs_in_the_precision_it_was_made_for(tmp_path: Path) -> None:
    detector = made()
    save_network(detector, tmp_path, {}, write_engine(detector, tmp_path, CPU, photographs(2)))
    with pytest.raises(BadInput, match=r"compute.precision is bfloat16, and the network was made to run in float32"):
        to_device(load_network(tmp_path), BFLOAT16)


def test_a_graph_that_was_changed_is_refused(tmp_path: Path) -> None:
    detector = made()
    save_network(detector, tmp_path, {}, write_engine(detector, tmp_path, CPU, photographs(2)))
    (tmp_path / GRAPH).write_text((tmp_path / GRAPH).read_text() + "\n")
    with pytest.raises(BadInput, match=r"graph\.xml does not match the hash"):
        load_network(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n", True),
        ("flags : fpu amx_bf16\n", True),
        ("flags : fpu avx2 avx512f\n", False),
        ("Features : fp asimd\n", True),
    ],
)
def test_bfloat16_instructions_are_those_the_kernel_names(tmp_path: Path, text: str, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert bfloat16_instructions(tmp_path / "cpuinfo") == expected
