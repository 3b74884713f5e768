from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from vqi.dataset.generator import render
from vqi.dataset.generator.defects import DEFECTS
from vqi.dataset.image_statistics import (
    STATISTICS,
    StatisticRange,
    evenly_chosen,
    false_alarm_rate,
    image_statistics,
    implausible_sentence,
    outside,
    plausible_ranges,
)

SIZE = (160, 200)


def statistics(image: np.ndarray) -> dict[str, float]:
    """As a network of 128 x 128 pixels sees it."""
    return image_statistics(
        np.asarray(Image.fromarray(image).resize((128, 128), Image.Resampling.BILINEAR)), image.shape[:2]
    )


def part(number: int, stream: int = 0, defect: str | None = None) -> np.ndarray:
    return render(SIZE, 0, stream, number, defect)[0]


def plate(seed: int, patch: tuple[int, int, int] | None = None, share: float = 0.0) -> np.ndarray:
    """An even grey surface, the hardest to tell from an empty frame; `share` of it is a square patch."""
    image = np.random.default_rng(seed).normal(120, 6, (*SIZE, 3)).clip(0, 255).astype(np.uint8)
    if patch:
        side = round((share * SIZE[0] * SIZE[1]) ** 0.5)
        image[20 : 20 + side, 30 : 30 + side] = patch
    return image


@pytest.fixture(scope="module")
def ranges() -> dict[str, StatisticRange]:
    return plausible_ranges([statistics(part(number)) for number in range(24)])


def half(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((image.shape[1] // 2, image.shape[0] // 2)))


def blurred(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(3)))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (np.zeros_like, "brightness"),
        (lambda image: np.full_like(image, 255), "brightness"),
        (lambda image: np.full_like(image, 120), "uniform_share"),
        (lambda image: np.random.default_rng(0).normal(85, 8, image.shape).clip(0, 255).astype(np.uint8), "contrast"),
        (half, "side"),
        (lambda image: half(half(image)), "side"),
        (lambda image: np.rot90(image), "aspect"),
        (blurred, "sharpness"),
        (lambda image: image // 4, "brightness"),
        (lambda image: 255 - image, "brightness"),
        (lambda image: (image * np.array([1.0, 0.75, 0.5])).astype(np.uint8), "blue_green"),
    ],
)
def test_what_cannot_be_a_photograph_of_the_set_is_outside(
    ranges: dict[str, StatisticRange], change, expected: str
) -> None:
    for number in range(3):
        assert expected in outside(statistics(change(part(number, stream=1))), ranges)


def test_grey_and_colour_do_not_pass_for_each_other(ranges: dict[str, StatisticRange]) -> None:
    def grey(number: int) -> np.ndarray:
        return np.asarray(Image.fromarray(part(number, stream=1)).convert("L").convert("RGB"))

    of_grey = plausible_ranges([statistics(grey(number)) for number in range(20)])
    assert outside(statistics(grey(21)), of_grey) == []
    assert outside(statistics(grey(21)), ranges) == ["colourfulness"]
    assert "colourfulness" in outside(statistics(part(21, stream=1)), of_grey)
    # A coloured defect on a grey set is a defect.
    marked = grey(21).copy()
    marked[40:100, 60:110] = (230, 40, 40)
    assert outside(statistics(marked), of_grey) == []


def test_good_parts_and_every_kind_of_defect_are_inside(ranges: dict[str, StatisticRange]) -> None:
    for number in range(12):
        assert outside(statistics(part(number, stream=1)), ranges) == []
    for stream, defect in enumerate(sorted(DEFECTS), start=2):
        for number in range(4):
            assert outside(statistics(part(number, stream, defect)), ranges) == [], defect


@pytest.mark.parametrize("patch", [(0, 0, 0), (255, 255, 255), (230, 40, 40), (40, 60, 230)])
@pytest.mark.parametrize("share", [0.01, 0.1])
def test_a_tenth_of_an_even_surface_may_be_defect(patch: tuple[int, int, int], share: float) -> None:
    ranges = plausible_ranges([statistics(plate(seed)) for seed in range(20)])
    assert outside(statistics(plate(99, patch, share)), ranges) == []


def test_the_sentence_names_figure_and_range(ranges: dict[str, StatisticRange]) -> None:
    row = statistics(part(0))
    assert implausible_sentence("a.png", row, ranges, 24) == ""
    sentence = implausible_sentence("a.png", row | {"aspect": 0.8, "side": 89.4}, ranges, 24)
    assert sentence == (
        "a.png is not a plausible photograph of this set: its size (side of a square of its area, pixels) is 89, in "
        "training 179; "
        "its aspect (width by height) is 0.800, in training 1.250 (24 good photographs)."
    )


def test_few_photographs_give_wider_ranges_and_a_higher_rate() -> None:
    def rows(count: int) -> list[dict[str, float]]:
        return [dict.fromkeys(STATISTICS, 1.0) | {"brightness": 100.0 + 40 * (number % 2)} for number in range(count)]

    assert [plausible_ranges(rows(count))["brightness"].low for count in (4, 10, 20, 100)] == [0, 60, 80, 80]
    assert [false_alarm_rate(rows(count)) for count in (1, 4, 99)] == [1, 1 / 5, 1 / 100]


def test_the_rate_counts_photographs_that_stand_out_of_the_others() -> None:
    rows = [statistics(part(number)) for number in range(15)]
    assert false_alarm_rate(rows) == pytest.approx(1 / 16)
    assert false_alarm_rate([*rows, statistics(part(15) // 4)]) == pytest.approx(2 / 17)


def test_the_stated_rate_bounds_the_rate_of_heavy_tails() -> None:
    """Figures drawn from a t distribution of two degrees of freedom, much rougher than photographs: new ones outside,
    against what was stated.
    """
    random = np.random.default_rng(0)
    stated, met = [], []
    for _ in range(60):
        rows = [
            dict.fromkeys(STATISTICS, 1.0) | {"brightness": float(120 + 20 * value)}
            for value in random.standard_t(2, 40)
        ]
        limits = plausible_ranges(rows)
        stated.append(false_alarm_rate(rows))
        met += [
            bool(outside(rows[0] | {"brightness": float(120 + 20 * value)}, limits))
            for value in random.standard_t(2, 200)
        ]
    assert np.mean(met) < np.mean(stated) < 0.1


@pytest.mark.parametrize(("count", "chosen"), [(0, []), (1, [0]), (3, [0, 1, 2]), (9, [0, 2, 4, 6, 8])])
def test_many_photographs_are_examined_evenly(count: int, chosen: list[int]) -> None:
    assert evenly_chosen(count, 5) == chosen
    assert len(evenly_chosen(10_000)) == 250
