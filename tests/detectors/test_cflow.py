"""CFLOW-AD: its position encoding, likelihood and map are the paper's, fibres go through every position, and scores
never depend on the batch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from normals import Batches, TensorImages, smooth_images, with_defect

from vqi.deployment.exports import check_formats
from vqi.deployment.graph_export import export_graphs
from vqi.detectors.cflow import Cflow, position_encoding
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.detectors.storage import load_network, save_network
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput
from vqi.training.loop import Loop, Training
from vqi.training.settings import TrainSettings

BACKBONE = BackboneSettings(weights="random", layers=("layer2", "layer3"))


def untrained(**settings: object) -> Cflow:
    detector = create("cflow", {"condition": 16, "coupling_blocks": 3, **settings}, BACKBONE, (64, 64), seed=3)
    assert isinstance(detector, Cflow)
    return detector


def run(detector: Cflow, steps: int) -> Training:
    images = smooth_images(8)
    settings = TrainSettings(max_steps=steps, batch_size=4)
    loop = Loop(
        detector,
        TensorImages(images),
        name="cflow",
        settings=settings,
        budget=detector.settings.budget,
        compute=Compute(),
        seed=0,
    )
    return loop.run(Batches(images))


def trained(steps: int = 4) -> Cflow:
    detector = untrained(learning_rate=1e-3, fibre=32)
    run(detector, steps)
    return detector


def test_the_position_encoding_is_sines_and_cosines_of_column_and_row():
    encoding = position_encoding(8, (3, 5)).reshape(3, 5, 8)
    for row in range(3):
        for column in range(5):
            expected = [
                f(coordinate / 1e4 ** (2 * k / 4))
                for coordinate in (column, row)
                for k in range(2)
                for f in (math.sin, math.cos)
            ]
            torch.testing.assert_close(encoding[row, column], torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_a_position_encoding_that_cannot_be_is_refused():
    with pytest.raises(BadInput, match="multiple of 4"):
        untrained(condition=10)


def test_the_likelihood_is_that_of_the_change_of_variables():
    detector = untrained()
    vectors, encodings = (values[:4] for values in detector.positions(smooth_images(1))[0])
    likelihoods = detector.likelihood(0, detector.positions(smooth_images(1))[0])[:4]
    for number in range(4):

        def flat(vector: torch.Tensor, number: int = number) -> torch.Tensor:
            return detector.flows[0](vector[None], [encodings[number : number + 1]])[0][0]

        jacobian = torch.autograd.functional.jacobian(flat, vectors[number])
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(flat(vectors[number])).sum()
        expected = (prior + torch.linalg.slogdet(jacobian).logabsdet) / len(vectors[number])
        torch.testing.assert_close(likelihoods[number], expected, rtol=1e-4, atol=1e-4)


def test_fibres_go_through_every_position_once_in_the_order_of_the_views():
    detector = untrained(fibre=48)
    images = smooth_images(3)
    views = detector.views(images, None, torch.Generator().manual_seed(0))
    mini_batches = list(detector.mini_batches(views))
    for number, scale in enumerate(detector.positions(images)):
        parts = [mini_batch[f"vectors_{number}"] for mini_batch in mini_batches if f"vectors_{number}" in mini_batch]
        assert len(parts) == len(scale.vectors) // 48
        assert all(len(part) == 48 for part in parts)
        order = views["order"].split([64, 16], dim=1)[number].flatten().argsort()[: 48 * len(parts)]
        torch.testing.assert_close(torch.cat(parts), scale.vectors[order])
    loss = detector.loss(mini_batches[0])
    assert set(loss) == {"loss", "layer2", "layer3"}
    assert set(detector.loss(mini_batches[-1])) == {"loss", "layer2"}


def test_the_loss_of_images_is_the_mean_over_all_their_positions():
    detector = untrained()
    images = smooth_images(2)
    losses = detector.loss({"images": images})
    for number, layer in enumerate(("layer2", "layer3")):
        likelihood = detector.likelihood(number, detector.positions(images)[number]).double()
        torch.testing.assert_close(
            losses[layer].double(), torch.log1p(torch.exp(-likelihood)).mean(), rtol=1e-5, atol=1e-6
        )
    torch.testing.assert_close(losses["loss"], losses["layer2"] + losses["layer3"])


def test_the_map_is_minus_the_sum_of_probabilities_relative_to_the_likeliest_normal():
    detector = untrained(image_score="max")
    normals, images = smooth_images(5), with_defect(smooth_images(2, seed=9))
    detector.finish(Batches(normals, 2))
    expected = torch.zeros(2, 64, 64, dtype=torch.float64)
    for number, grid in enumerate(detector.grids):
        of_normals = detector.likelihood(number, detector.positions(normals)[number])
        torch.testing.assert_close(detector.likeliest[number], of_normals.max())
        likelihood = (
            detector.likelihood(number, detector.positions(images)[number]).detach().double().reshape(2, 1, *grid)
        )
        probability = torch.exp(likelihood - of_normals.max().item())
        expected -= F.interpolate(probability, size=(64, 64), mode="bilinear", align_corners=True)[:, 0]
    with torch.inference_mode():
        scores = detector(images)
    torch.testing.assert_close(scores.map.double(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(scores.image, scores.map.amax(dim=(1, 2)))


def test_it_learns_the_flows_alone_and_a_defect_becomes_less_likely():
    detector = untrained(learning_rate=1e-3, fibre=32)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    points = run(detector, 12).points
    assert points[-1]["loss"] < points[0]["loss"] - 0.1
    after = detector.state_dict()
    assert all(
        torch.equal(after[name], value)
        for name, value in before.items()
        if name.startswith("backbone.") or "w_perm" in name
    )
    learnt = [name for name, parameter in detector.named_parameters() if parameter.requires_grad]
    assert {name.split(".")[0] for name in learnt} == {"flows"}
    assert not any(torch.equal(after[name], before[name]) for name in learnt)
    good = smooth_images(4, seed=9)
    normal, defective = detector(good), detector(with_defect(good))
    assert (defective.map[:, 12:28, 12:28].mean(dim=(1, 2)) > normal.map[:, 12:28, 12:28].mean(dim=(1, 2))).all()
    assert defective.map[:, 12:28, 12:28].mean() > defective.map[:, 44:, 44:].mean()


def test_the_same_seed_gives_the_same_weights_and_disk_gives_them_back(tmp_path: Path):
    first, second = trained(), trained()
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    save_network(first, tmp_path, {})
    loaded = load_network(tmp_path)
    assert torch.equal(loaded.get_buffer("likeliest"), first.likeliest)
    images = with_defect(smooth_images(2, seed=9))
    with torch.inference_mode():
        assert torch.equal(first(images).map, loaded(images).map)


def test_scores_do_not_depend_on_the_batch():
    detector = trained()
    images = with_defect(smooth_images(4, seed=9))
    with torch.inference_mode():
        together = detector(images)
        for number in range(4):
            alone = detector(images[number : number + 1])
            torch.testing.assert_close(alone.image[0], together.image[number], rtol=1e-5, atol=0)
            torch.testing.assert_close(alone.map[0], together.map[number], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_exported_graphs_score_alike_at_any_batch(tmp_path: Path):
    detector = trained()
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
