"""The two rules by which regions of a map are marked."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vqi.evaluation.box_rule import BoxRule
from vqi.evaluation.pictures import boxes


def test_a_method_without_a_fraction_marks_what_is_above_the_pixel_threshold():
    rule = BoxRule.of_method({"smoothing": 4.0})
    assert rule.to_dict() == {"rule": "threshold", "fraction": None}
    assert [rule.level(np.zeros((2, 2)), decision, 1.5) for decision in ("good", "defect")] == [1.5, 1.5]
    assert rule.level(np.zeros((2, 2)), "defect", None) == math.inf


def test_a_fraction_of_the_maximum_marks_defects_alone():
    rule, values = BoxRule.of_method({"box_fraction": 0.7}), np.array([[10.0, 2.0], [np.nan, -3.0]])
    assert rule.to_dict() == {"rule": "fraction", "fraction": 0.7}
    assert rule.level(values, "defect", 100.0) == pytest.approx(7.0)
    assert rule.level(values, "good", 100.0) == math.inf
    assert "70%" in rule.sentence


def test_every_region_above_the_fraction_gets_a_box_the_first_row_and_column_too():
    values = np.zeros((20, 30), np.float32)
    values[0:2, 0:3] = 10.0
    values[18:20, 27:30] = 8.0
    values[10, 10] = 6.9
    assert boxes(values, BoxRule(0.7).level(values, "defect", None)) == [(0, 0, 3, 2, 10.0), (27, 18, 30, 20, 8.0)]


@pytest.mark.parametrize(("height", "found"), [(0.0, []), (-2.0, []), (5.0, [(0, 0, 6, 4, 5.0)])])
def test_a_constant_map_is_one_region_or_none(height: float, found: list):
    values = np.full((4, 6), height, np.float32)
    assert boxes(values, BoxRule(0.7).level(values, "defect", None)) == found
