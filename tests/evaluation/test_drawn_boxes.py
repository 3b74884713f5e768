"""Box recall: which boxes what is marked reaches into."""

from __future__ import annotations

import numpy as np

from vqi.evaluation.drawn_boxes import NO_BOXES, DrawnBoxes


def test_a_box_is_found_where_a_marked_pixel_lies_in_it() -> None:
    marked, seen = np.zeros((10, 10), bool), np.ones((10, 10), bool)
    marked[2, 2] = True
    seen[:, 9] = False
    boxes = DrawnBoxes()
    boxes.add([(0, 0, 3, 3), (3, 2, 6, 6), (9, 0, 10, 4)], marked, seen, "cut")
    boxes.add([(2, 2, 3, 3)], marked, seen, "dent")
    boxes.add([(0, 0, 2, 2), (4, 4, 5, 5)], marked, seen, "dent")
    assert (boxes.count, boxes.unseen) == (5, 1)
    assert boxes.recall() == 2 / 5
    assert (boxes.recall("cut"), boxes.recall("dent"), boxes.recall("stain")) == (1 / 2, 1 / 3, None)


def test_without_boxes_there_is_no_recall() -> None:
    assert (NO_BOXES.count, NO_BOXES.recall()) == (0, None)
