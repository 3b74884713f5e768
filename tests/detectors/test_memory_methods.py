"""PatchCore, PaDiM and DFM: each equation against the plain computation, and what all detectors promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from normals import Batches, smooth_images, with_defect

from vqi.detectors import memory_bank
from vqi.detectors.coreset import greedy_k_center
from vqi.detectors.dfm import Dfm
from vqi.detectors.padim import Padim
from vqi.detectors.principal import principal_components
from vqi.detectors.registry import create
from vqi.detectors.settings import SETTINGS, BackboneSettings
from vqi.platform.errors import BadInput

RANDOM = BackboneSettings(weights="random")
# What is trained by gradient has tests of its own.
MEMORY_METHODS = [name for name, kind in SETTINGS.items() if kind.budget is None]


def fitted(method: str, settings: dict | None = None, backbone: BackboneSettings = RANDOM):
    detector = create(
        method, settings or ({"coreset_ratio": 0.2} if method == "patchcore" else {}), backbone, (64, 64), seed=3
    )
    detector.build_index(Batches(smooth_images(12)))
    return detector


@pytest.mark.parametrize("backbone", [RANDOM, BackboneSettings(name="filterbank")], ids=lambda backbone: backbone.name)
@pytest.mark.parametrize("method", MEMORY_METHODS)
def test_a_defect_scores_higher_and_the_map_shows_where(method, backbone):
    detector = fitted(method, backbone=backbone)
    good = smooth_images(4, seed=9)
    normal, defective = detector(good), detector(with_defect(good))
    assert normal.map.shape == (4, 64, 64)
    assert normal.image.dtype == normal.map.dtype == torch.float32
    assert (defective.image > normal.image.max()).all()
    inside, outside = defective.map[:, 12:28, 12:28].mean(), defective.map[:, 44:, 44:].mean()
    assert inside > outside


@pytest.mark.parametrize("method", MEMORY_METHODS)
def test_scores_do_not_depend_on_the_batch(method):
    detector = fitted(method)
    images = with_defect(smooth_images(4, seed=9))
    together = detector(images)
    for number in range(4):
        alone = detector(images[number : number + 1])
        torch.testing.assert_close(alone.image[0], together.image[number], rtol=1e-5, atol=0)
        torch.testing.assert_close(alone.map[0], together.map[number], rtol=1e-5, atol=1e-5 * float(together.map.max()))


@pytest.mark.parametrize("method", MEMORY_METHODS)
def test_the_same_seed_gives_the_same_scores_bit_for_bit(method):
    images = with_defect(smooth_images(2, seed=9))
    first, second = fitted(method)(images), fitted(method)(images)
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.map, second.map)


def test_patchcore_scores_are_equations_6_and_7():
    detector = fitted("patchcore", {"coreset_ratio": 0.2, "neighbours": 4, "smoothing": 0})
    embedding = detector.embed(with_defect(smooth_images(1, seed=9)))
    bank, patches = detector.index["memory_bank"].double(), embedding.reshape(-1, embedding.shape[-1]).double()
    distances = torch.cdist(patches, bank)
    nearest, item = distances.min(dim=1)
    worst = int(nearest.argmax())
    around = torch.cdist(bank[item[worst]][None], bank)[0].argsort()[:4]
    weight = 1 - torch.exp(nearest[worst]) / torch.exp(distances[worst, around]).sum()
    scores = detector.score(embedding, detector.index)
    assert float(scores.image) == pytest.approx(float(weight * nearest[worst]), rel=1e-5)
    means = distances.topk(3, largest=False).values.mean(dim=1).reshape(1, 1, *detector.grid)
    expected = torch.nn.functional.interpolate(means, size=(64, 64), mode="bilinear")[:, 0]
    torch.testing.assert_close(scores.map.double(), expected, rtol=1e-5, atol=1e-6)


def test_patchcore_reweighting_does_not_overflow():
    detector = fitted("patchcore")
    bank = detector.index["memory_bank"]
    far = torch.full((1, *detector.grid, bank.shape[1]), 1e4)
    assert torch.isfinite(detector.score(far, detector.index).image).all()


def test_patchcore_reduces_batch_by_batch_where_the_patches_do_not_fit(monkeypatch):
    whole = fitted("patchcore").index["memory_bank"]
    monkeypatch.setattr(memory_bank, "PATCH_MEMORY", 200 * whole.shape[1] * 4)
    reduced = fitted("patchcore").index["memory_bank"]
    assert reduced.shape == whole.shape
    known = {tuple(row) for row in fitted("patchcore", {"coreset_ratio": 1.0}).index["memory_bank"].tolist()}
    assert {tuple(row) for row in reduced.tolist()} <= known


def test_patchcore_keeps_to_the_cap_and_to_the_neighbours():
    assert len(fitted("patchcore", {"coreset_ratio": 0.5, "max_bank": 20}).index["memory_bank"]) == 20
    assert len(fitted("patchcore", {"coreset_ratio": 1e-5}).index["memory_bank"]) == 9


def test_padim_moments_are_those_of_all_embeddings_whatever_the_batches():
    detector = create("padim", {"channels": 20}, RANDOM, (64, 64), seed=0)
    assert isinstance(detector, Padim)
    images = smooth_images(13)
    values = detector.embed(images).reshape(13, -1, 20).double().numpy()
    for size in (1, 4, 13):
        detector.build_index(Batches(images, size))
        np.testing.assert_allclose(detector.index["mean"].numpy(), values.mean(axis=0), rtol=1e-4, atol=1e-5)
        for position in (0, 100, 255):
            whitening = detector.index["whitening"][position].double().numpy()
            covariance = np.cov(values[:, position].T) + 0.01 * np.eye(20)
            np.testing.assert_allclose(whitening @ covariance @ whitening.T, np.eye(20), atol=1e-3)


@pytest.mark.parametrize(("reduction", "resize"), [("orthogonal", "bilinear"), ("pick", "nearest")])
def test_padim_reduces_all_channels_as_one_matrix_would(reduction: str, resize: str):
    detector = create("padim", {"channels": 30, "reduction": reduction, "resize": resize}, RANDOM, (64, 64), seed=0)
    assert isinstance(detector, Padim)
    matrix = detector.reduction
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(30), atol=1e-5, rtol=0)
    assert bool((matrix.count_nonzero(dim=0) == 1).all()) == (reduction == "pick")
    images = smooth_images(2)
    layers = [
        torch.nn.functional.interpolate(layer, size=detector.grid, mode=resize)
        for layer in detector.backbone(images).values()
    ]
    torch.testing.assert_close(
        detector.embed(images), torch.cat(layers, dim=1).permute(0, 2, 3, 1) @ matrix, rtol=1e-4, atol=1e-5
    )


def test_padim_score_is_the_mahalanobis_distance():
    detector = create("padim", {"channels": 10, "smoothing": 0}, RANDOM, (64, 64), seed=0)
    detector.build_index(Batches(smooth_images(13)))
    embedding = detector.embed(smooth_images(1, seed=5))
    values, index = embedding.reshape(-1, 10).double(), detector.index
    precision = index["whitening"].mT.double() @ index["whitening"].double()
    centred = values - index["mean"].double()
    expected = torch.einsum("pi,pij,pj->p", centred, precision, centred).sqrt().reshape(1, 1, *detector.grid)
    expected = torch.nn.functional.interpolate(expected, size=(64, 64), mode="bilinear")[:, 0]
    scores = detector.score(embedding, index)
    torch.testing.assert_close(scores.map.double(), expected, rtol=1e-4, atol=1e-4)
    assert float(scores.image) == float(scores.map.max())


@pytest.mark.parametrize("shape", [(20, 300), (300, 20)], ids=["gram", "covariance"])
def test_principal_components_are_those_of_the_svd(shape):
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 3, shape[1]) + 7
    centred = (rows - rows.mean(dim=0)).double()
    _, values, vectors = torch.linalg.svd(centred, full_matrices=False)
    share = values.square().cumsum(0) / values.square().sum()
    mean, components = map(torch.from_numpy, principal_components(rows.numpy().copy(), 0.9))
    assert len(components) == int((share < 0.9).sum()) + 1
    torch.testing.assert_close(mean, rows.mean(dim=0))
    expected = vectors[: len(components)].T @ vectors[: len(components)]
    torch.testing.assert_close((components.T @ components).double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("localisation", ["patch", "error"])
def test_dfm_leaves_nothing_of_what_it_was_fitted_on_when_it_keeps_all_variance(localisation):
    detector = create("dfm", {"variance": 1.0, "localisation": localisation}, RANDOM, (64, 64), seed=0)
    assert isinstance(detector, Dfm)
    images = smooth_images(8)
    detector.build_index(Batches(images))
    seen, unseen = detector(images).image, detector(smooth_images(4, seed=9)).image
    assert float(seen.max()) < 1e-3 * float(unseen.min())


@pytest.mark.parametrize("method", ["padim", "dfm"])
def test_one_normal_is_too_few(method):
    detector = create(method, {}, RANDOM, (64, 64))
    with pytest.raises(BadInput, match="at least 2 normals"):
        detector.build_index(Batches(smooth_images(1)))


def test_identical_normals_are_no_trouble():
    for method in MEMORY_METHODS:
        detector = create(method, {}, RANDOM, (64, 64))
        detector.build_index(Batches(smooth_images(1).expand(6, -1, -1, -1)))
        assert torch.isfinite(detector(smooth_images(2, seed=5)).map).all()


def test_one_time_budget_is_shared_by_all_selections_of_a_build(monkeypatch, capsys):
    """Three fits, the patches of each in pieces: the seconds of all selections together are those of the setting."""
    allowed = []

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock = Clock()

    def spending(points, count, max_seconds=0.0, at_least=1):
        allowed.append(max_seconds)
        clock.now += max_seconds
        return greedy_k_center(points, max(at_least, count // 2))

    monkeypatch.setattr(memory_bank, "time", clock)
    monkeypatch.setattr(memory_bank, "greedy_k_center", spending)
    settings = {"coreset_ratio": 0.2, "max_seconds": 6.0, "calibration": "refits"}
    detector = create("patchcore", settings, RANDOM, (64, 64), seed=3)
    monkeypatch.setattr(memory_bank, "PATCH_MEMORY", 200 * 384 * 4)
    embeddings = list(detector.embedded(Batches(smooth_images(12))))
    detector.begin_build(3)
    for _ in range(3):
        detector.fit(iter(embeddings), 12)
    assert len(allowed) == 3 * 5
    assert sum(allowed) == pytest.approx(6.0)
    assert len(detector.build_notes) == 3
    assert "max_seconds is 6 for the whole build" in detector.build_notes[0]
    assert "5 of 5 selections were cut short" in capsys.readouterr().err
    detector.build_index(Batches(smooth_images(12)))
    assert sum(allowed[15:]) == pytest.approx(6.0)
    assert len(detector.build_notes) == 1


def test_pools_take_half_of_the_time_budget(monkeypatch):
    allowed = []

    def cut(points, count, max_seconds=0.0, at_least=1):
        allowed.append(max_seconds)
        return greedy_k_center(points, max(at_least, count - 1))

    monkeypatch.setattr(memory_bank, "greedy_k_center", cut)
    detector = create("patchcore", {"coreset_ratio": 0.1, "max_seconds": 600.0}, RANDOM, (64, 64))
    embeddings = torch.cat(list(detector.embedded(Batches(smooth_images(6)))))
    detector.begin_build(4)
    detector.index = detector.fit([embeddings], 6)
    banks = list(detector.leave_out(lambda numbers: [embeddings[list(numbers)]], [[0, 1], [2, 3], [4, 5]]))
    assert len(banks) == 3
    # The bank took next to nothing of its half: a sixth of all, and more where those before it left some.
    assert allowed[0] == 300
    assert allowed[1] == pytest.approx(100, abs=1)
    assert min(allowed[2:]) > 99
    assert "6 coresets for the threshold were cut short" in detector.build_notes[1]


def test_a_build_without_a_time_budget_reports_nothing():
    assert fitted("patchcore").build_notes == []
