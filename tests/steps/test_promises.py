"""What a threshold promises, by simulation: parts that are photographed twice, and normals that tune what they then
calibrate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from vqi.dataset.splits import held_out, plan_calibration
from vqi.detectors.calibration import cross_scores
from vqi.detectors.efficient_ad import EfficientAd
from vqi.detectors.embeddings import Embeddings
from vqi.detectors.interface import Detector, Scores
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.evaluation.thresholds import conformal_threshold

PARTS, LENGTH, REPEATS, FRESH = 15, 60, 150, 20


class Subspace(Detector):
    """The distance from the span of the normals: a detector that knows every normal by heart, as dfm does where they
    are few."""

    method = "subspace"

    def __init__(self) -> None:
        super().__init__({}, nn.BatchNorm1d(1), (1, 1))

    def embed(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    def fit(self, embeddings: Iterable[Tensor], images: int) -> dict[str, Tensor]:
        values = torch.cat(list(embeddings))
        return {
            "mean": values.mean(dim=0),
            "span": torch.linalg.svd(values - values.mean(dim=0), full_matrices=False).Vh,
        }

    def score(self, embedding: Tensor, index: Mapping[str, Tensor]) -> Scores:
        centred = embedding - index["mean"]
        distance = (centred - centred @ index["span"].T @ index["span"]).square().sum(dim=1)
        return Scores(distance, distance[:, None, None])


class Batch:
    """Images as one batch."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __iter__(self) -> Iterator[Tensor]:
        yield self.images

    def __len__(self) -> int:
        return len(self.images)


def photographs(parts: Tensor, random: torch.Generator) -> Tensor:
    """One of each part."""
    return (parts + 0.1 * torch.randn(parts.shape, generator=random))[:, :, None, None]


def rejected(groups: Sequence[str], kind: str) -> tuple[float, float]:
    """The rate that is promised, and the share of photographs of new parts that is rejected.

    Every part is photographed twice; `groups` is what each of the photographs counts as.
    """
    share, promised = 0.0, 1.0
    for repeat in range(REPEATS):
        random = torch.Generator().manual_seed(repeat)
        parts = torch.randn(PARTS, LENGTH, generator=random)
        images = torch.cat([photographs(parts, random), photographs(parts, random)])
        detector = Subspace()
        if kind == "cross":
            learnt, calibrating = images, list(range(len(images)))
            embeddings = Embeddings(
                detector, lambda numbers, images=images: Batch(images[list(numbers)]), len(images), 8
            )
            scores = [score.score for score in cross_scores(detector, embeddings, groups)[1]]
        else:
            chosen = held_out({str(number): group for number, group in enumerate(groups)}, 0.3, repeat, "calibration")
            calibrating = [number for number in range(len(images)) if str(number) in chosen]
            learnt = images[[number for number in range(len(images)) if str(number) not in chosen]]
            scores = detector.score(
                detector.embed(images[calibrating]), detector.fit([detector.embed(learnt)], len(learnt))
            ).image.tolist()
        highest: dict[str, float] = {}
        for number, score in zip(calibrating, scores, strict=True):
            highest[groups[number]] = max(score, highest.get(groups[number], 0.0))
        threshold, promised = conformal_threshold(list(highest.values()), 0.01)
        fresh = detector.embed(photographs(torch.randn(FRESH, LENGTH, generator=random), random))
        share += (
            detector.score(fresh, detector.fit([detector.embed(learnt)], len(learnt))).image > threshold
        ).float().mean().item() / REPEATS
    return promised, share


@pytest.mark.parametrize("kind", ["cross", "split"])
def test_parts_that_are_kept_together_keep_the_promise(kind: str) -> None:
    together = [str(number % PARTS) for number in range(2 * PARTS)]
    promised, share = rejected(together, kind)
    assert promised == pytest.approx(
        plan_calibration(PARTS, 0.01, False, 0.0 if kind == "cross" else 0.3).smallest_rate
    )
    # The threshold is the highest of two photographs of every part; three standard errors of the mean of 150 repeats
    # are .03.
    assert share < promised + 0.03


@pytest.mark.parametrize("kind", ["cross", "split"])
def test_parts_that_are_torn_break_it(kind: str) -> None:
    """What the test above guards against: dealt one by one, the photographs of a part hide how far new parts lie."""
    promised, share = rejected([str(number) for number in range(2 * PARTS)], kind)
    assert share > 4 * promised


def map_scores(detector: EfficientAd, count: int, random: torch.Generator) -> Tensor:
    """Images whose first two channels are the maps that `detector` makes of them; few normals have a large one."""
    scale = torch.exp(1.5 * torch.randn(count, 2, 1, 1, generator=random))
    maps = scale * torch.randn(count, 2, 16, 16, generator=random).square()
    return torch.cat([maps, maps[:, :1]], dim=1)


@pytest.mark.parametrize(("own", "kept"), [(False, True), (True, False)])
def test_the_scales_of_maps_come_from_other_normals_than_the_threshold(own: bool, kept: bool) -> None:
    detector = create("efficient_ad", {"channels": 8}, BackboneSettings(name="filterbank"), (64, 64))
    assert isinstance(detector, EfficientAd)
    detector.maps = lambda images: (images[:, 0], images[:, 1])  # type: ignore[method-assign]
    share, repeats, calibrating, fresh = 0.0, 1500, 6, 30
    for repeat in range(repeats):
        random = torch.Generator().manual_seed(repeat)
        calibration, tuning, new = (map_scores(detector, count, random) for count in (calibrating, calibrating, fresh))
        detector.finish(Batch(calibration if own else tuning))
        threshold, promised = conformal_threshold(detector.score(calibration, {}).image.tolist(), 0.01)
        share += (detector.score(new, {}).image > threshold).float().mean().item() / repeats
    assert promised == pytest.approx(1 / 7)
    # Three standard errors of 1500 repeats are .01.
    assert (share < promised + 0.01) == kept, share
