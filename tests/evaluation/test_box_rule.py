"""The two rules by which regions of a map are marked."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vqi.evaluation.box_rule import BoxRule
from vqi.evaluation.pictures import boxes


def test_a_method_without_a_fraction_marks_what_is_above_the_pixel_threshold():
    rule = BoxRule.of_method({"smoothing": 4.0})
    assert rule.boxes.values() == {"rule": "threshold", "fraction": None}
    assert [rule.level(np.full((2, 2), 2.0), decision, 1.5) for decision in ("good", "defect")] == [1.5, 1.5]
    assert rule.level(np.zeros((2, 2)), "good", 1.5) == 1.5
    assert rule.level(np.full((2, 2), 2.0), "defect", None) == math.inf


def test_a_fraction_of_the_maximum_marks_defects_alone():
    rule, values = BoxRule.of_method({"box_fraction": 0.7}), np.array([[10.0, 2.0], [np.nan, -3.0]])
    assert rule.boxes.values() == {"rule": "fraction", "fraction": 0.7}
    assert rule.level(values, "defect", 100.0) == pytest.approx(7.0)
    assert rule.level(values, "good", 100.0) == math.inf
    assert "70%" in rule.sentence


def test_every_region_above_the_fraction_gets_a_box_the_first_row_and_column_too():
    values = np.zeros((20, 30), np.float32)
    values[0:2, 0:3] = 10.0
    values[18:20, 27:30] = 8.0
    values[10, 10] = 6.9
    assert boxes(values, BoxRule(0.7).level(values, "defect", None)) == [(0, 0, 3, 2, 10.0), (27, 18, 30, 20, 8.0)]


@pytest.mark.parametrize(("height", "expected"), [(0.0, []), (-2.0, []), (5.0, [(0, 0, 6, 4, 5.0)])])
def test_a_constant_map_is_one_region_or_none(height: float, expected: list):
    values = np.full((4, 6), height, np.float32)
    assert boxes(values, BoxRule(0.7).level(values, "defect", None)) == expected


@pytest.mark.parametrize(("floor", "height"), [(0.0, 1.0), (-9.0, -2.0), (0.999999, 1.0), (1e6, 1e6 + 1)])
def test_a_defect_whose_map_stays_low_has_its_highest_region_boxed(floor: float, height: float):
    values = np.full((20, 30), floor, np.float32)
    values[5:8, 10:14] = height
    values[15, 3] = floor + (height - floor) / 2
    values[0, 0] = np.nan
    assert boxes(values, BoxRule().level(values, "defect", height + 5)) == [(10, 5, 14, 8, float(np.float32(height)))]
    assert boxes(values, BoxRule().level(values, "good", height + 5)) == []


def test_a_defect_always_has_a_box_also_where_its_maximum_is_the_threshold():
    for height in (2.9721555709838867, 0.1, 1e-30, 3e7):
        values = np.full((8, 8), height, np.float32)
        assert boxes(values, BoxRule().level(values, "defect", float(np.float32(height)))) == [
            (0, 0, 8, 8, float(np.float32(height)))
        ]
