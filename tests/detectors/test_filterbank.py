import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vqi.detectors.filterbank import ORIENTATIONS, STRIDE, FilterBank, gabor_pairs


@pytest.fixture(scope="module")
def bank() -> FilterBank:
    return FilterBank().eval()


def grating(wavelength: float, angle: float, size: int = 128, phase: float = 0.0, contrast: float = 0.3) -> Tensor:
    """A grey sinusoid that varies along `angle`, float32 [1, 3, size, size] in [0, 1]."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    wave = torch.cos(2 * math.pi / wavelength * (x * math.cos(angle) + y * math.sin(angle)) + phase)
    return (0.5 + contrast * wave).expand(1, 3, -1, -1).contiguous()


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (100, 57), (256, 256)])
def test_every_node_has_the_same_grid_and_the_channels_it_states(bank: FilterBank, size: tuple[int, int]) -> None:
    features = bank(torch.rand(2, 3, *size))
    assert tuple(features) == bank.nodes
    for node, values in features.items():
        assert values.shape == (2, bank.channels[node], math.ceil(size[0] / STRIDE), math.ceil(size[1] / STRIDE))
        assert values.dtype == torch.float32
        assert values.isfinite().all()
    assert sum(bank.channels.values()) <= 300


def test_requested_nodes_come_in_order_with_the_same_values(bank: FilterBank) -> None:
    images = torch.rand(1, 3, 64, 64)
    responses = bank(images, (bank.nodes[2], bank.nodes[0]))
    assert list(responses) == [bank.nodes[2], bank.nodes[0]]
    assert torch.equal(responses[bank.nodes[2]], bank(images)[bank.nodes[2]])


def test_nothing_is_learned_or_stored(bank: FilterBank) -> None:
    assert not list(bank.parameters())
    assert not bank.state_dict()


def test_a_filter_answers_its_own_grating_with_the_amplitude_and_brightness_with_nothing() -> None:
    even, odd = gabor_pairs().double().chunk(2)
    size = even.shape[-1]
    wave = grating(4.0, 0.0, 2 * size, contrast=0.3)[:, :1].double()
    response = (nn.functional.conv2d(wave, even[:1]) ** 2 + nn.functional.conv2d(wave, odd[:1]) ** 2).sqrt()
    assert response.numpy() == pytest.approx(np.full(response.shape, 0.3), rel=0.05)
    assert even.sum((1, 2, 3)).abs().max() < 1e-6
    assert odd.sum((1, 2, 3)).abs().max() < 1e-6


@pytest.mark.parametrize("size", [(128, 128), (125, 131)])
@pytest.mark.parametrize("node", FilterBank.nodes)
def test_a_position_reads_what_lies_around_the_middle_of_its_cell(
    bank: FilterBank, node: str, size: tuple[int, int]
) -> None:
    random, cell = torch.Generator().manual_seed(0), (7, 8)
    images = torch.rand(48, 3, *size, generator=random).requires_grad_()
    values = bank(images)[node][:, :, cell[0], cell[1]]
    (values * torch.randn(values.shape, generator=random)).sum().backward()
    assert images.grad is not None
    energy = images.grad.square().sum(dim=(0, 1))
    # The exposure's gain gives every pixel of the image a little of it.
    energy = (energy - energy.median()).clamp(min=0)
    for axis in (0, 1):
        centroid = (energy.sum(dim=1 - axis) * torch.arange(size[axis])).sum() / energy.sum()
        assert float(centroid) == pytest.approx((cell[axis] + 0.5) * STRIDE - 0.5, abs=0.3)


@pytest.mark.parametrize("turn", range(ORIENTATIONS))
def test_the_orientation_of_a_grating_shows_and_its_phase_does_not(bank: FilterBank, turn: int) -> None:
    angle = math.pi * turn / ORIENTATIONS
    first, second = (
        bank(grating(4.0, angle, phase=phase))[bank.nodes[0]][0, :ORIENTATIONS, 4:-4, 4:-4] for phase in (0.0, 1.0)
    )
    assert (first.argmax(0) == turn).all()
    torch.testing.assert_close(first.amax(0), second.amax(0), atol=0.05, rtol=0)


def test_an_image_does_not_depend_on_its_batch_nor_on_the_memory_format(bank: FilterBank) -> None:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    together, again = bank(images), bank(images)
    strided = bank(images.to(memory_format=torch.channels_last))
    for node in bank.nodes:
        assert torch.equal(together[node], again[node])
        torch.testing.assert_close(bank(images[1:2])[node], together[node][1:2], atol=1e-5, rtol=0)
        torch.testing.assert_close(strided[node], together[node], atol=1e-4, rtol=0)


def test_grey_images_have_no_colour_contrast(bank: FilterBank) -> None:
    features = bank(grating(8.0, 0.3))[bank.nodes[1]]
    luminance = features.shape[1] // 3 - 1
    assert features[:, :luminance].abs().max() > 0.5
    assert features[:, luminance:-3].abs().max() < 1e-3


def test_bfloat16_changes_little(bank: FilterBank) -> None:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    exact = bank(images)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = bank(images)
    for node in bank.nodes:
        assert rounded[node].dtype == torch.float32
        assert (rounded[node] - exact[node]).abs().mean() < 0.05


class _Flat(nn.Module):
    """The bank with one output: what an exported graph needs."""

    def __init__(self, bank: FilterBank) -> None:
        super().__init__()
        self.bank = bank

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat(list(self.bank(images).values()), 1)


@pytest.mark.slow
def test_it_runs_the_same_in_onnx_runtime_and_openvino_at_another_batch_size(bank: FilterBank, tmp_path: Path) -> None:
    onnxruntime, openvino = pytest.importorskip("onnxruntime"), pytest.importorskip("openvino")
    file = tmp_path / "bank.onnx"
    batch = torch.export.Dim("batch", min=1)
    torch.onnx.export(
        _Flat(bank).eval(),
        (torch.rand(2, 3, 60, 64),),
        file,
        dynamo=True,
        dynamic_shapes=({0: batch},),
        input_names=["images"],
    )
    images = torch.rand(3, 3, 60, 64, generator=torch.Generator().manual_seed(0))
    expected = _Flat(bank)(images).numpy()
    (onnx,) = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(
        None, {"images": images.numpy()}
    )
    compiled = openvino.compile_model(openvino.convert_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.abs(onnx - expected).max() < 1e-4
    assert np.abs(compiled(images.numpy())[0] - expected).max() < 1e-4


def test_another_exposure_is_nearly_the_same(bank: FilterBank) -> None:
    images = 0.2 + 0.6 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    bright, dark = bank(images), bank(0.6 * images)
    for node in bank.nodes:
        assert (bright[node] - dark[node]).abs().max() < 0.06
        assert (bright[node] - bank(images.flip(-1))[node]).abs().max() > 0.5
