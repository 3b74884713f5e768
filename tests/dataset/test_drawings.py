"""Drawings become masks: the shapes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from vqi.dataset.drawings import (
    MOST_POINTS,
    Box,
    Drawing,
    Polygon,
    RunLengths,
    draw_mask,
    reaches_beyond,
)
from vqi.platform.errors import BadInput


def drawn(*drawings: Drawing, width: int = 12, height: int = 9) -> np.ndarray:
    return draw_mask(drawings, width, height, "The photograph x.png")


def rectangle(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((9, 12), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_a_box_covers_the_pixels_it_touches() -> None:
    assert np.array_equal(drawn(Box(2, 1, 6, 4)), rectangle(2, 1, 6, 4))
    assert np.array_equal(drawn(Box(2.9, 1.2, 5.1, 3.01)), rectangle(2, 1, 6, 4))
    assert np.array_equal(drawn(Box(-3, -2, 2, 3)), rectangle(0, 0, 2, 3))


def test_a_polygon_covers_its_outline_too() -> None:
    assert np.array_equal(drawn(Polygon([(2, 1), (6, 1), (6, 4), (2, 4)])), rectangle(2, 1, 7, 5))
    assert np.array_equal(drawn(Polygon(np.array([[3, 2]]))), rectangle(3, 2, 4, 3))
    assert np.array_equal(drawn(Polygon([(3, 2), (8, 2)])), rectangle(3, 2, 9, 3))
    triangle = drawn(Polygon([(0, 0), (8, 0), (0, 8)]))
    assert triangle[1, 1]
    assert not triangle[7, 7]


def test_relative_coordinates_are_shares_of_the_photograph() -> None:
    assert np.array_equal(drawn(Box(0.5, 0, 1, 1 / 3, relative=True)), rectangle(6, 0, 12, 3))
    outline = Polygon([(0.25, 1 / 3), (0.5, 1 / 3), (0.5, 2 / 3), (0.25, 2 / 3)], relative=True)
    assert np.array_equal(drawn(outline), rectangle(3, 3, 7, 7))
    assert not reaches_beyond(outline, 12, 9)
    assert reaches_beyond(Box(0.5, 0, 1.1, 1, relative=True), 12, 9)
    with pytest.raises(BadInput, match="a box off the photograph: it lies at x 24 to 36"):
        drawn(Box(2, 2, 3, 3, relative=True))


def test_drawings_are_united() -> None:
    runs = RunLengths([0, 2, 9 * 12 - 2], 9, 12)
    united = drawn(Box(2, 1, 6, 4), Polygon([(10, 8)]), runs)
    assert np.array_equal(united, rectangle(2, 1, 6, 4) | rectangle(10, 8, 11, 9) | rectangle(0, 0, 1, 2))


# What pycocotools 2.0 makes of the mask below.
COCO_TEXT = "01l03YO0000000;M6"


def test_runs_are_those_of_coco() -> None:
    expected = rectangle(3, 2, 8, 6) | rectangle(9, 4, 10, 5) | rectangle(0, 0, 1, 1)
    assert np.array_equal(drawn(RunLengths(COCO_TEXT, 9, 12)), expected)
    flat = expected.T.ravel()
    starts = np.flatnonzero(np.diff(flat.astype(int), prepend=0))
    counts = np.diff([0, *starts, flat.size])
    assert np.array_equal(drawn(RunLengths(counts, 9, 12)), expected)
    rows = np.diff([0, *np.flatnonzero(np.diff(expected.ravel().astype(int), prepend=0)), expected.size])
    assert np.array_equal(drawn(RunLengths(rows.tolist(), 9, 12, by_columns=False)), expected)


@pytest.mark.parametrize(
    ("drawing", "sentence"),
    [
        (
            Box(20, 1, 22, 4),
            "a box off the photograph: it lies at x 20 to 22 and y 1 to 4, and the photograph has 12 x 9",
        ),
        (Box(-4, 1, 0, 4), "a box off the photograph"),
        (Box(5, 1, 5, 4), r"a box from \(5, 1\) to \(5, 4\), which holds nothing"),
        (Box(float("nan"), 1, 5, 4), "a box whose corners are not finite"),
        (Box("left", 1, 5, 4), "a box whose corners are not numbers"),  # type: ignore[arg-type]
        (Polygon([(1, 20), (2, 30), (3, 20)]), "a polygon off the photograph"),
        (Polygon([(1, 1), (1e9, 3), (3, 2)]), "a polygon off the photograph"),
        (Polygon([]), "a polygon without points"),
        (Polygon([(1, 2, 3)]), "a polygon whose points are not pairs of numbers"),
        (Polygon([(1, 2), (3,)]), "a polygon whose points are not numbers"),
        (Polygon(None), "a polygon whose points are not numbers"),  # type: ignore[arg-type]
        (Polygon([(1, float("inf"))]), "a polygon whose points are not finite"),
        (Polygon(np.zeros((MOST_POINTS + 1, 2))), "a polygon of 20001 points, more than 20000"),
        (RunLengths([1, 2], 9, 12), "whose runs cover 3 pixels of 108"),
        (RunLengths([10**12, 10**12], 9, 12), "whose runs cover 2000000000000 pixels of 108"),
        (RunLengths([-1, 109], 9, 12), "whose runs are not whole numbers of 0 and more"),
        (RunLengths([0.5, 107.5], 9, 12), "whose runs are not whole numbers"),  # type: ignore[list-item]
        (RunLengths([10**400], 9, 12), "whose runs are not numbers"),
        (RunLengths([81], 9, 9), "of 9 x 9 pixels, and the photograph has 12 x 9"),
        (RunLengths([1], 10**30, 1), "run-length mask of 1 x 1000000000000000000000000000000 pixels"),
        (RunLengths([0], 0, 12), "a run-length mask of 0 x 12 pixels"),
        (RunLengths("\x00", 9, 12), "whose text is not COCO's"),
        (RunLengths("é", 9, 12), "whose text is not COCO's"),
        (RunLengths("o" * 20, 9, 12), "whose text is not COCO's"),
        (RunLengths("0o", 9, 12), "whose text ends within a run"),
        (RunLengths("O", 9, 12), "with a run of -1 pixels"),
        (RunLengths("", 9, 12), "whose runs cover 0 pixels of 108"),
        (RunLengths("0" * 30_000_000, 9, 12), "a run-length mask of 30000000 characters"),
    ],
)
def test_what_cannot_be_drawn_is_refused(drawing: Drawing, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence) as refused:
        drawn(drawing)
    assert str(refused.value).startswith("The photograph x.png has ")


def test_parts_beyond_the_edge_are_known() -> None:
    assert reaches_beyond(Box(-1, 0, 3, 3), 12, 9)
    assert reaches_beyond(Polygon([(1, 1), (12.5, 3), (3, 2)]), 12, 9)
    assert not reaches_beyond(Box(0, 0, 12, 9), 12, 9)
    assert not reaches_beyond(RunLengths([108], 9, 12), 12, 9)
