"""CS-Flow: FrEIA's block on a row of positions is the paper's on three maps, likelihood and scores are the paper's, any
image size works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from normals import Batches, TensorImages, smooth_images, with_defect

from vqi.deployment.exports import check_formats
from vqi.deployment.graph_export import export_graphs
from vqi.detectors.cs_flow import CrossScaleSubnet, CsFlow, in_maps, in_positions
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.detectors.storage import load_network, save_network
from vqi.platform.devices import Compute
from vqi.training.loop import Loop
from vqi.training.settings import TrainSettings

BACKBONE = BackboneSettings(weights="random", layers=("layer2",))


def untrained(size: tuple[int, int] = (64, 64), backbone: BackboneSettings = BACKBONE, **settings: object) -> CsFlow:
    detector = create("cs_flow", {"hidden_channels": 16, "coupling_blocks": 2, **settings}, backbone, size, seed=3)
    assert isinstance(detector, CsFlow)
    return detector


def trained(steps: int = 12) -> tuple[CsFlow, list[dict[str, float]]]:
    detector, images = untrained(learning_rate=2e-3), smooth_images(8)
    settings = TrainSettings(max_steps=steps, batch_size=4)
    loop = Loop(
        detector,
        TensorImages(images),
        name="cs_flow",
        settings=settings,
        budget=detector.settings.budget,
        compute=Compute(),
        seed=0,
    )
    return detector, loop.run(Batches(images)).points


def disturbed(detector: CsFlow) -> CsFlow:
    """With other numbers in every trained parameter: as it comes every block is the identity."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in detector.flow.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return detector


def plain_block(
    subnets: tuple[CrossScaleSubnet, CrossScaleSubnet], maps: list[torch.Tensor], clamp: float
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The coupling of the paper, scale by scale: both halves in turn are scaled and shifted by what the other says."""

    def coefficients(subnet: CrossScaleSubnet, values: list[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        halves = [part.chunk(2, dim=1) for part in in_maps(subnet(in_positions(values)), subnet.grids)]
        return [(clamp * 0.636 * torch.atan(scale / clamp), shift) for scale, shift in halves]

    first, second = zip(*(values.chunk(2, dim=1) for values in maps), strict=True)
    of_second = coefficients(subnets[1], list(second))
    first = [values * scale.exp() + shift for values, (scale, shift) in zip(first, of_second, strict=True)]
    of_first = coefficients(subnets[0], first)
    second = [values * scale.exp() + shift for values, (scale, shift) in zip(second, of_first, strict=True)]
    determinant = torch.stack([scale.sum(dim=(1, 2, 3)) for scale, _ in of_first + of_second]).sum(dim=0)
    return [torch.cat(halves, dim=1) for halves in zip(first, second, strict=True)], determinant


def test_a_block_on_a_row_of_positions_is_the_papers_on_three_maps():
    detector = disturbed(untrained(coupling_blocks=1))
    permute, block = detector.flow
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, 128, *grid, generator=generator) for grid in detector.grids]
    expected, expected_determinant = plain_block(
        (block.subnet1, block.subnet2), [values[:, permute.perm] for values in maps], 3.0
    )
    z, determinant = detector.flow(in_positions(maps))
    torch.testing.assert_close(z, in_positions(expected))
    torch.testing.assert_close(determinant, expected_determinant)
    back, inverse = detector.flow(z, rev=True)
    torch.testing.assert_close(back, in_positions(maps), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(inverse, -determinant)


def test_scales_reach_their_neighbours_alone():
    subnet = CrossScaleSubnet(4, 6, [(8, 8), (4, 4), (2, 2)], hidden=5, kernel=3)
    torch.nn.init.ones_(subnet.gain)
    maps = [torch.randn(1, 4, *grid, generator=torch.Generator().manual_seed(0)) for grid in subnet.grids]
    plain = in_maps(subnet(in_positions(maps)), subnet.grids)
    changed = in_maps(subnet(in_positions([maps[0] + 1, *maps[1:]])), subnet.grids)
    assert [torch.equal(a, b) for a, b in zip(plain, changed, strict=True)] == [False, False, True]


@pytest.mark.parametrize("chosen", ["product", "finest"])
def test_scores_and_loss_are_the_papers(chosen):
    detector = disturbed(untrained(map=chosen))
    images = smooth_images(3)
    latents, log_determinant = detector.latents(images)
    flat = torch.cat([z.flatten(1) for z in latents], dim=1).double()
    maps = [
        F.interpolate(z.double().square().mean(dim=1, keepdim=True), size=(64, 64), mode="bilinear")[:, 0]
        for z in latents
    ]
    scores = detector(images)
    torch.testing.assert_close(scores.image.double(), flat.square().mean(dim=1) / 2, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        scores.map.double(), maps[0] * maps[1] * maps[2] if chosen == "product" else maps[0], rtol=1e-4, atol=1e-5
    )
    # Every image has its own determinant: none is counted once for each image of the batch.
    expected = ((flat.square() / 2).sum(dim=1) - log_determinant.double()).mean() / flat.shape[1]
    torch.testing.assert_close(detector.loss({"images": images})["loss"].double(), expected, rtol=1e-5, atol=0)
    alone = torch.stack([detector.loss({"images": images[n : n + 1]})["loss"] for n in range(3)])
    torch.testing.assert_close(detector.loss({"images": images})["loss"], alone.mean(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("size", [(64, 64), (72, 100), (97, 66)])
@pytest.mark.parametrize(
    "backbone",
    [BACKBONE, BackboneSettings(name="vgg11", weights="random", layers=("features.10",))],
    ids=lambda b: b.name,
)
def test_any_image_size_and_network_will_do(size, backbone):
    detector = disturbed(untrained(size, backbone, coupling_blocks=1, hidden_channels=4))
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    scores = detector(images)
    assert scores.map.shape == (2, *size)
    assert torch.isfinite(scores.map).all()
    back, _ = detector.flow(in_positions(detector.latents(images)[0]), rev=True)
    forth, _ = detector.flow(back)
    torch.testing.assert_close(forth, in_positions(detector.latents(images)[0]), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_it_learns_the_flow_alone_and_a_defect_scores_higher():
    before = untrained().state_dict()
    detector, points = trained(40)
    assert points[-1]["loss"] < points[0]["loss"] - 0.01
    after = detector.state_dict()
    assert all(
        torch.equal(after[name], value)
        for name, value in before.items()
        if name.startswith("backbone.") or "perm" in name
    )
    learnt = [name for name, parameter in detector.named_parameters() if parameter.requires_grad]
    assert {name.split(".")[0] for name in learnt} == {"flow"}
    assert not any(torch.equal(after[name], before[name]) for name in learnt)
    good = smooth_images(4, seed=9)
    normal, defective = detector(good), detector(with_defect(good))
    assert (defective.image > normal.image.max()).all()
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
            torch.testing.assert_close(
                alone.map[0], together.map[number], rtol=1e-5, atol=1e-5 * float(together.map.max())
            )


@pytest.mark.slow
def test_the_exported_graphs_score_alike_at_any_batch(tmp_path: Path):
    detector = disturbed(untrained())
    export_graphs(detector, tmp_path)
    images = with_defect(smooth_images(3, seed=9))
    with torch.inference_mode():
        expected = detector(images)
    for export_format in check_formats(("onnx", "openvino")):
        infer = export_format.open(tmp_path, (64, 64), {}, "cpu", 2)
        for batch in (1, 3):
            score, values = infer(images[:batch].numpy())
            np.testing.assert_allclose(score, expected.image[:batch], rtol=1e-4)
            np.testing.assert_allclose(values, expected.map[:batch], rtol=1e-4, atol=1e-4)
