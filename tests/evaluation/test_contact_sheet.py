from __future__ import annotations

import numpy as np

from vqi.evaluation.contact_sheet import BAND, MARGIN, SIDE, contact_sheet


def test_pictures_stand_below_their_heading_in_their_row() -> None:
    first = np.stack([np.full((64, 64, 3), shade, np.uint8) for shade in (40, 80)])
    second = np.stack([np.full((64, 64, 3), shade, np.uint8) for shade in (120, 160)])
    sheet = contact_sheet("title", {"one": first, "two": second}, ["a", "b"])
    rows = [2 * BAND + MARGIN + row * (64 + BAND + MARGIN) + BAND + 32 for row in (0, 1)]
    columns = [MARGIN + 32, MARGIN + 120 + MARGIN + 32]
    assert [[int(sheet[y, x, 0]) for x in columns] for y in rows] == [[40, 120], [80, 160]]


def test_large_pictures_are_shrunk_and_hostile_names_stay_one_line() -> None:
    tall = np.zeros((1, 1200, 300, 3), np.uint8)
    sheet = contact_sheet("x" * 500, {"view\n\x1b[2J": tall}, ["train/" + "<b>ü\n" * 300], ["defect"])
    assert sheet.shape[0] == 2 * BAND + MARGIN + SIDE + BAND + MARGIN
    assert sheet.shape[1] == 480
