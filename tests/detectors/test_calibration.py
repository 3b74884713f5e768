import pytest
import torch
from normals import Batches, smooth_images

from vqi.detectors.calibration import cross_scores, folds_of, shuffled
from vqi.detectors.embeddings import Embeddings
from vqi.detectors.registry import create
from vqi.detectors.settings import BackboneSettings
from vqi.platform.errors import BadInput

# Every normal a part of its own.
SINGLE = [str(number) for number in range(30)]


def embeddings(count: int, memory: int = 2**30) -> Embeddings:
    detector = create("patchcore", {"coreset_ratio": 1.0}, BackboneSettings(name="filterbank"), (64, 64))
    images = smooth_images(count)
    return Embeddings(detector, lambda numbers: Batches(images[list(numbers)], 2), count, 2, memory)


def test_every_number_is_in_one_fold():
    folds = folds_of(SINGLE[:23], 10, seed=1)
    assert sorted(number for fold in folds for number in fold) == list(range(23))
    assert {len(fold) for fold in folds} == {2, 3}
    assert folds == folds_of(SINGLE[:23], 10, seed=1) != folds_of(SINGLE[:23], 10, seed=2)


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (1, 1), (23, 0), (31, 7), (250, 2**32 - 1), (9, 2**33 + 5)])
def test_folds_are_dealt_as_torch_deals_them(count: int, seed: int) -> None:
    assert shuffled(count, seed) == torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()


def test_photographs_of_one_part_are_in_one_fold():
    groups = [str(number % 7) for number in range(20)]
    folds = folds_of(groups, 3, seed=0)
    assert sorted(number for fold in folds for number in fold) == list(range(20))
    assert sorted(len({groups[number] for number in fold}) for fold in folds) == [2, 2, 3]
    assert sum(len({groups[number] for number in fold}) for fold in folds) == 7


def test_no_normal_is_scored_by_an_index_that_its_part_is_in():
    """Of every part a second photograph, the very same: torn, each would find itself and score 0."""
    detector = create("patchcore", {"coreset_ratio": 1.0}, BackboneSettings(name="filterbank"), (64, 64))
    images = smooth_images(4).repeat(2, 1, 1, 1)
    pairs = Embeddings(detector, lambda numbers: Batches(images[list(numbers)], 2), 8, 2)
    folds, scores = cross_scores(detector, pairs, [str(number % 4) for number in range(8)])
    assert folds == 4
    assert min(score.score for score in scores) > 0.01
    _, torn = cross_scores(detector, pairs, SINGLE[:8])
    assert max(score.score for score in torn) < 1e-3
    with pytest.raises(BadInput, match="8 show 2"):
        cross_scores(detector, pairs, ["a", "b"] * 4)


def test_no_normal_is_scored_by_an_index_it_is_in():
    """With every patch in the bank an image that is in it scores 0; held out it does not."""
    kept = embeddings(5)
    detector = kept.detector
    own = detector.score(torch.cat(list(kept.of(range(5)))), detector.fit(kept.of(range(5)), 5))
    assert float(own.image.max()) < 1e-3
    folds, scores = cross_scores(detector, kept, SINGLE[:5])
    assert folds == 5
    assert min(score.score for score in scores) > 0.01
    assert min(score.map_max for score in scores) > 0.01
    assert all(0 <= score.map_median <= score.map_max for score in scores)


def test_computed_again_gives_the_scores_of_those_kept():
    kept, again = embeddings(4), embeddings(4, memory=0)
    assert again.kept is None
    for one, other in zip(
        cross_scores(kept.detector, kept, SINGLE[:4])[1],
        cross_scores(again.detector, again, SINGLE[:4])[1],
        strict=True,
    ):
        assert one == pytest.approx(other, rel=1e-4)


def test_what_is_left_out_has_no_say_in_its_bank():
    """Another normal in its place, however strange, leaves the bank it is compared with as it is: bit for bit."""
    images = smooth_images(6)
    strange = images.clone()
    strange[2] = 1 - strange[2]
    settings = {"coreset_ratio": 0.1}
    banks = []
    for shown in (images, strange):
        detector = create("patchcore", settings, BackboneSettings(name="filterbank"), (64, 64))
        normals = Embeddings(detector, lambda numbers, shown=shown: Batches(shown[list(numbers)], 2), 6, 2)
        detector.index = detector.fit(normals.of(range(6)), 6)
        banks.append([index["memory_bank"] for index in detector.leave_out(normals.of, [[0, 1], [2, 3], [4, 5]])])
        assert {len(bank) for bank in banks[-1]} == {len(detector.index["memory_bank"])}
    one, other = banks
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[0], other[0])


def test_pools_that_hold_everything_are_refits_with_a_bank_of_full_size():
    normals = embeddings(4)
    detector = normals.detector
    (bank, *_) = detector.leave_out(normals.of, [[1], [0, 2], [3]])
    everything = torch.cat(list(normals.of([0, 2, 3]))).reshape(-1, bank["memory_bank"].shape[1])
    assert torch.equal(bank["memory_bank"], everything)


def test_refits_are_fits_of_all_others():
    normals = embeddings(4)
    detector = create(
        "patchcore", {"coreset_ratio": 0.1, "calibration": "refits"}, BackboneSettings(name="filterbank"), (64, 64)
    )
    first, *_ = detector.leave_out(normals.of, [[1], [0, 2], [3]])
    assert torch.equal(first["memory_bank"], detector.fit(normals.of([0, 2, 3]), 3)["memory_bank"])


def test_too_few_normals_for_refits():
    with pytest.raises(BadInput, match="at least 3 normals"):
        cross_scores(embeddings(2).detector, embeddings(2), SINGLE[:2])
