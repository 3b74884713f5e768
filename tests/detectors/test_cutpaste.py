"""CutPaste: the pasting against slicing, the four variants, the two phases."""

import math

import pytest
import torch
from normals import Batches, smooth_images

from vqi.detectors.cutpaste import Cutpaste, cut_and_paste
from vqi.detectors.learner import Schedule
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings

RANDOM = BackboneSettings(weights="random", layers=("layer1.0",))


def made(**settings: object) -> Cutpaste:
    detector = create("cutpaste", {"head_layers": 1, "learning_rate": 0.01, **settings}, RANDOM, (64, 64), seed=1)
    assert isinstance(detector, Cutpaste)
    detector.prepare(Batches(smooth_images(8)))
    return detector


def numbered(count: int, height: int, width: int) -> torch.Tensor:
    """Images whose every pixel says where it is."""
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    return torch.stack([y, x, torch.zeros_like(x)]).expand(count, -1, -1, -1).contiguous()


def test_an_upright_patch_is_a_copy_of_a_whole_rectangle():
    images = numbered(20, 40, 56)
    patches, opacity = cut_and_paste(
        images, torch.full((20,), 12.0), torch.full((20,), 7.0), torch.zeros(20), torch.Generator().manual_seed(0)
    )
    moved = set()
    for patch, where in zip(patches, opacity[:, 0], strict=True):
        assert set(where.unique().tolist()) == {0.0, 1.0}
        rows, columns = where.nonzero().T
        top, left = int(rows.min()), int(columns.min())
        assert (int(rows.max()) - top + 1, int(columns.max()) - left + 1, int(where.sum())) == (7, 12, 84)
        rectangle = patch[:, top : top + 7, left : left + 12]
        y, x = round(float(rectangle[0, 0, 0]) * 40), round(float(rectangle[1, 0, 0]) * 56)
        torch.testing.assert_close(rectangle, images[0, :, y : y + 7, x : x + 12], atol=1e-5, rtol=0)
        moved.add((top - y, left - x))
    assert len(moved) > 10


def test_a_turned_patch_keeps_its_area_lies_within_and_holds_what_was_cut():
    images = numbered(30, 64, 64)
    angle = torch.linspace(-math.pi / 4, math.pi / 4, 30)
    patches, opacity = cut_and_paste(
        images, torch.full((30,), 6.0), torch.full((30,), 20.0), angle, torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(opacity.sum(dim=(1, 2, 3)), torch.full((30,), 120.0), rtol=0.05, atol=0)
    inside = opacity[:, 0] == 1
    for patch, where, turned in zip(patches, inside, angle, strict=True):
        y, x = patch[0][where] * 64, patch[1][where] * 64
        # What is seen there was an upright rectangle of 6 x 20 in the image.
        assert float(x.max() - x.min()) < 6
        assert 14 < float(y.max() - y.min()) < 20
        rows, columns = where.nonzero().T.float()
        slope = torch.linalg.lstsq(torch.stack([rows, torch.ones_like(rows)], dim=1), columns[:, None]).solution[0, 0]
        assert float(slope) == pytest.approx(-math.tan(float(turned)), abs=0.15)


def test_a_patch_as_large_as_the_image_is_the_image():
    images = smooth_images(2, 32)
    patches, opacity = cut_and_paste(
        images, torch.full((2,), 32.0), torch.full((2,), 32.0), torch.zeros(2), torch.Generator()
    )
    assert bool((opacity == 1).all())
    torch.testing.assert_close(patches, images, atol=1e-5, rtol=0)


def test_patches_have_the_papers_areas_and_aspect_ratios():
    detector = made(jitter=0.0)
    images = torch.rand(150, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    changed = (detector.normal(images, torch.Generator().manual_seed(1)) - images).abs().amax(dim=1) > 1e-4
    areas = changed.float().mean(dim=(1, 2))
    whole = areas[areas > 0]  # where a patch happens to cover its own place, less of it is seen
    assert float(whole.mean()) == pytest.approx((0.02 + 0.15) / 2, abs=0.01)
    assert float(areas.max()) < 0.17
    extents = [(int(c.any(dim=0).sum()), int(c.any(dim=1).sum())) for c in changed if c.any()]
    ratios = torch.tensor([math.log(across / down) for across, down in extents])
    assert abs(float(ratios.mean())) < 0.15
    assert 1.0 < float(ratios.max()) < math.log(3.3) + 0.3


@pytest.mark.parametrize(
    ("variant", "names"),
    [
        ("normal", ("original", "pasted")),
        ("scar", ("original", "pasted")),
        ("union", ("original", "pasted")),
        ("3way", ("original", "normal", "scar")),
    ],
)
def test_every_variant_makes_its_own_views_and_classes(variant, names):
    detector = made(variant=variant, jitter=0.0)
    images = torch.rand(40, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    views = detector.views(images, None, torch.Generator().manual_seed(0))
    assert tuple(views) == names == detector.classes
    assert detector.head[-1].out_features == len(names)
    torch.testing.assert_close(views["original"], images, atol=1e-6, rtol=0)
    share = {name: ((views[name] - images).abs().amax(dim=1) > 1e-4).float().mean(dim=(1, 2)) for name in names[1:]}
    large = {name: float((values > 0.015).float().mean()) for name, values in share.items()}
    if variant == "3way":
        assert large["normal"] > 0.8
        assert large["scar"] == 0.0
    else:
        assert {
            "normal": large["pasted"] > 0.8,
            "scar": large["pasted"] == 0.0,
            "union": 0.25 < large["pasted"] < 0.75,
        }[variant]
    assert all((values > 0).any() for values in share.values())


def test_the_loss_is_the_cross_entropy_of_the_classes():
    detector = made(variant="3way").eval().requires_grad_(False)
    views = detector.views(smooth_images(5), None, torch.Generator().manual_seed(0))
    expected, right = 0.0, 0
    for label, name in enumerate(("original", "normal", "scar")):
        logits = detector.head(detector.backbone(views[name])["layer1.0"].mean(dim=(2, 3))).double()
        expected -= float(torch.log_softmax(logits, dim=1)[:, label].sum()) / 15
        right += int((logits.argmax(dim=1) == label).sum())
    losses = detector.loss(views)
    assert float(losses["loss"]) == pytest.approx(expected, rel=1e-4)
    assert float(losses["accuracy"]) == pytest.approx(right / 15)


def test_first_the_head_alone_learns_and_then_the_backbone_too():
    detector, schedule = made(freeze_epochs=1), Schedule(3, 1, 4)
    optimiser, _, _ = detector.optimisation(schedule)

    def snapshot(part: torch.nn.Module) -> list[torch.Tensor]:
        return [value.clone() for value in part.state_dict().values()]

    changed = []
    for epoch in range(3):
        detector.begin_epoch(epoch, schedule)
        detector.train()
        before = snapshot(detector.head), snapshot(detector.backbone)
        optimiser.zero_grad(set_to_none=True)
        detector.loss(detector.views(smooth_images(4), None, torch.Generator().manual_seed(epoch)))["loss"].backward()
        optimiser.step()
        after = snapshot(detector.head), snapshot(detector.backbone)
        changed.append(
            tuple(
                any(not torch.equal(a, b) for a, b in zip(x, y, strict=True))
                for x, y in zip(before, after, strict=True)
            )
        )
        # Frozen, its statistics stay as well.
        assert detector.backbone.training == (epoch >= 1)
    assert changed == [(True, False), (True, True), (True, True)]


@pytest.mark.parametrize(("epochs", "frozen"), [(256, 20), (40, 20), (6, 3), (3, 1), (2, 1), (1, 0)])
def test_a_small_budget_is_shared_between_the_phases_and_says_so(epochs, frozen, capsys):
    detector, schedule = made(), Schedule(2 * epochs, 2, 4)
    assert detector.frozen_epochs(schedule) == frozen
    detector.begin_epoch(0, schedule)
    messages = capsys.readouterr().err
    assert (f"of {epochs} epochs the head alone learns in {frozen}" in messages) == (frozen < 20)
    assert next(detector.backbone.parameters()).requires_grad == (frozen == 0)
    detector.begin_epoch(frozen, schedule)
    assert next(detector.backbone.parameters()).requires_grad


def test_the_rate_follows_cosines_that_begin_anew():
    detector = made(cycles=2, backbone_rate=0.1)
    optimiser, factor, _ = detector.optimisation(Schedule(100, 10, 32))
    head, backbone = optimiser.param_groups
    assert (head["lr"], backbone["lr"], head["weight_decay"], head["momentum"]) == (
        0.01,
        pytest.approx(0.001),
        3e-5,
        0.9,
    )
    assert [factor(step) for step in (0, 25, 50, 75)] == pytest.approx([1.0, 0.5, 1.0, 0.5])
    assert made().optimisation(Schedule(100, 10, 32)).factor(50) == pytest.approx(0.5)


def test_the_loss_falls():
    detector, schedule = made(freeze_epochs=0), Schedule(10, 1, 4)
    optimiser, _, _ = detector.optimisation(schedule)
    detector.begin_epoch(0, schedule)
    detector.train()
    views, losses = detector.views(smooth_images(4), None, torch.Generator().manual_seed(0)), []
    for _ in range(10):
        loss = detector.loss(views)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
