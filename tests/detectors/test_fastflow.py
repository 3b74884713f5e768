"""FastFlow: its flow is invertible and its log-determinant right, its loss and map are the paper's, and what learns is
what should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from normals import Batches, TensorImages, smooth_images, with_defect

from vqi.deployment.exports import check_formats
from vqi.deployment.graph_export import export_graphs
from vqi.detectors.fastflow import Fastflow
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.detectors.storage import load_network, save_network
from vqi.platform.devices import Compute
from vqi.training.loop import Loop
from vqi.training.settings import TrainSettings

BACKBONE = BackboneSettings(weights="random", layers=("layer1", "layer2"))


def untrained(**settings: object) -> Fastflow:
    detector = create("fastflow", {"flow_steps": 4, **settings}, BACKBONE, (64, 64), seed=3)
    assert isinstance(detector, Fastflow)
    return detector


def trained(steps: int = 12) -> tuple[Fastflow, list[dict[str, float]]]:
    detector, images = untrained(), smooth_images(8)
    settings = TrainSettings(max_steps=steps, batch_size=4)
    loop = Loop(
        detector,
        TensorImages(images),
        name="fastflow",
        settings=settings,
        budget=detector.settings.budget,
        compute=Compute(),
        seed=0,
    )
    return detector, loop.run(Batches(images)).points


def disturbed(detector: Fastflow) -> Fastflow:
    """With other numbers in every trained parameter, so that no term of an equation is zero or one by its initial
    value."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in detector.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return detector


def test_the_flow_is_invertible_and_its_log_determinant_is_the_jacobians():
    flow = (
        disturbed(create("fastflow", {"flow_steps": 4}, BackboneSettings(name="filterbank"), (64, 64), seed=3))
        ._flow((6, 3, 2))
        .double()
    )
    values = torch.randn(2, 6, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def flat(row: torch.Tensor) -> torch.Tensor:
        # Coefficients come as float32: the subnetworks' values are rounded, which is far below the tolerance.
        return flow(row.reshape(1, 6, 3, 2))[0].flatten()

    z, log_determinant = flow(values)
    for number in range(2):
        jacobian = torch.autograd.functional.jacobian(flat, values[number].flatten())
        torch.testing.assert_close(
            torch.linalg.slogdet(jacobian).logabsdet, log_determinant[number].double(), rtol=1e-5, atol=1e-5
        )
    back, inverse = flow(z, rev=True)
    torch.testing.assert_close(back, values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(inverse, -log_determinant)


def test_a_picked_permutation_is_the_matrix_freia_multiplies_by():
    from FrEIA.modules import AllInOneBlock

    from vqi.detectors.flows import append_affine_coupling, empty_flow, seeded

    def subnet(channels: int, coefficients: int) -> torch.nn.Module:
        return torch.nn.Conv2d(channels, coefficients, 3, padding=1)

    flow = empty_flow(6, 4, 4)
    with seeded(5):
        append_affine_coupling(flow, subnet, 2.0)
    with seeded(5):
        plain = AllInOneBlock([(6, 4, 4)], subnet_constructor=subnet, affine_clamping=2.0)
    values = torch.randn(3, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    (expected,), expected_determinant = plain([values])
    z, determinant = flow(values)
    torch.testing.assert_close(z, expected)
    torch.testing.assert_close(determinant, expected_determinant)


def test_the_scale_of_a_channel_is_freias_to_the_bit_and_so_is_its_gradient():
    from vqi.detectors.flows import _global_scale

    values, others = (torch.linspace(-60, 60, 4001).requires_grad_() for _ in range(2))
    ours, freias = _global_scale(values), 0.1 * torch.nn.Softplus(beta=0.5)(others)
    assert torch.equal(ours, freias)
    ours.sum().backward()
    freias.sum().backward()
    assert torch.equal(values.grad, others.grad)


def test_making_a_flow_draws_from_no_global_generator():
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(0)
    np.random.seed(0)
    untrained()
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])


@pytest.mark.parametrize("kind", ["probability", "likelihood"])
def test_the_map_is_the_mean_over_the_stages_and_the_loss_the_negative_log_likelihood(kind):
    detector = disturbed(untrained(map=kind, image_score="max"))
    images = smooth_images(3)
    expected, total = torch.zeros(3, 64, 64, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for flow, norm, feature in zip(detector.flows, detector.norms, detector.backbone(images).values(), strict=True):
        normalised = F.layer_norm(feature, feature.shape[1:]) * norm.weight + norm.bias
        z, log_determinant = flow(normalised)
        z, log_determinant = z.detach().double(), log_determinant.detach().double()
        density = -0.5 * z.square().mean(dim=1, keepdim=True)
        values = -density if kind == "likelihood" else -density.exp()
        expected += F.interpolate(values, size=(64, 64), mode="bilinear")[:, 0] / 2
        total += (0.5 * z.square().sum(dim=(1, 2, 3)) - log_determinant).mean()
    scores = detector(images)
    torch.testing.assert_close(scores.map.double(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(scores.image, scores.map.amax(dim=(1, 2)))
    torch.testing.assert_close(detector.loss({"images": images})["loss"].double(), total, rtol=1e-5, atol=0)


def test_it_learns_the_flows_alone_and_a_defect_becomes_less_probable():
    before = untrained().state_dict()
    detector, points = trained(24)
    assert points[-1]["loss"] < points[0]["loss"] - 1000  # nats an image of 12,288 values
    after = detector.state_dict()
    assert all(
        torch.equal(after[name], value)
        for name, value in before.items()
        if name.startswith("backbone.") or "w_perm" in name
    )
    learnt = [name for name, parameter in detector.named_parameters() if parameter.requires_grad]
    assert {name.split(".")[0] for name in learnt} == {"norms", "flows"}
    assert not any(torch.equal(after[name], before[name]) for name in learnt)
    good = smooth_images(4, seed=9)
    normal, defective = detector(good), detector(with_defect(good))
    assert (defective.map[:, 12:28, 12:28].mean(dim=(1, 2)) > normal.map[:, 12:28, 12:28].mean(dim=(1, 2))).all()
    assert defective.map[:, 12:28, 12:28].mean() > defective.map[:, 44:, 44:].mean()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_disk_gives_them_back(tmp_path: Path):
    first, second = trained()[0], trained()[0]
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    save_network(first, tmp_path, {})
    loaded = load_network(tmp_path)
    images = with_defect(smooth_images(2, seed=9))
    with torch.inference_mode():
        assert torch.equal(first(images).map, loaded(images).map)


def test_scores_do_not_depend_on_the_batch():
    detector = disturbed(untrained())
    images = with_defect(smooth_images(4, seed=9))
    with torch.inference_mode():
        together = detector(images)
        for number in range(4):
            alone = detector(images[number : number + 1])
            torch.testing.assert_close(alone.image[0], together.image[number], rtol=1e-5, atol=0)
            torch.testing.assert_close(alone.map[0], together.map[number], rtol=1e-5, atol=1e-5)


def test_scales_and_log_determinants_are_float32_under_bfloat16():
    detector = disturbed(untrained())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        latents = detector.latents(smooth_images(2))
    assert all(z.dtype == log_determinant.dtype == torch.float32 for z, log_determinant in latents)


@pytest.mark.slow
def test_the_exported_graphs_score_alike_at_any_batch(tmp_path: Path):
    detector = disturbed(untrained(flow_steps=2))
    export_graphs(detector, tmp_path)
    images = with_defect(smooth_images(3, seed=9))
    with torch.inference_mode():
        expected = detector(images)
    for export_format in check_formats(("onnx", "openvino")):
        infer = export_format.open(tmp_path, (64, 64), {}, "cpu", 2)
        for batch in (1, 3):
            score, values = infer(images[:batch].numpy())
            np.testing.assert_allclose(score, expected.image[:batch], rtol=1e-4)
            np.testing.assert_allclose(values, expected.map[:batch], rtol=1e-4, atol=1e-5)
