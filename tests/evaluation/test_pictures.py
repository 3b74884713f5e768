"""What was found is drawn where it is, in colours that mean the same in every picture, under names that stay inside
their folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vqi.evaluation.pictures import (
    DETECTED,
    TRUTH,
    Example,
    Scale,
    boxes,
    colour_table,
    draw_boxes,
    heatmap,
    outline,
    panel,
    picture_name,
    safe_name,
    save_picture,
    views,
)


def example(path: str = "test/scratch/001.png", size: tuple[int, int] = (60, 80), **changes) -> Example:
    """A grey part with a defect of value 3 in rows 10..19, columns 30..49."""
    values = np.full(size, 0.2, np.float32)
    values[10:20, 30:50] = 3.0
    defaults = {
        "label": "defect",
        "defect": "scratch",
        "score": 3.0,
        "decision": "defect",
        "image": np.full((*size, 3), 128, np.uint8),
        "map": values,
    }
    return Example(**{"path": path, "mask": values > 1, **defaults, **changes})


def test_colours_rise_in_lightness_by_even_steps_and_need_no_hue():
    table = colour_table().astype(float)
    linear = np.where(table / 255 <= 0.04045, table / 255 / 12.92, ((table / 255 + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16
    assert table.shape == (256, 3)
    eighths = np.diff(lightness[:: 255 // 8])
    assert eighths.min() > 4
    assert eighths.max() < 3 * eighths.min()


@pytest.mark.parametrize(("threshold", "floor"), [(2.0, 0.0), (0.0, 0.0), (-3.0, 0.0), (-3.0, -10.0), (1e-9, 0.0)])
def test_the_threshold_has_the_middle_colour_whatever_its_sign(threshold: float, floor: float):
    scale = Scale(threshold, floor)
    low, middle, high = scale.positions(np.array([threshold - 100, threshold, threshold + 100]))
    assert (low, middle, high) == (0.0, 0.5, 1.0)


def test_a_heatmap_leaves_normal_regions_as_they_are_and_darkens_the_unseen():
    one = example()
    values = one.map.copy()
    values[:, :5] = np.nan
    drawn = heatmap(one.image, values, Scale(1.0))
    assert (drawn[40:, 60:] == 128).all()
    assert (drawn[:, :5] < 70).all()
    expected = 128 * 0.28 + colour_table()[255] * 0.72
    assert np.abs(drawn[15, 40] - expected).max() <= 1


def test_boxes_hold_each_region_once_in_pixel_edges_best_first():
    values = np.zeros((20, 30), np.float32)
    values[2:5, 3:7] = 2.0
    values[4, 6] = 2.5
    values[5, 7] = 2.0  # touches by a corner: the same region
    values[10:12, 20:30] = 9.0
    values[0, 29] = 1.0  # at the threshold is not above it
    values[:, 0] = np.nan
    assert boxes(values, 1.0) == [(20, 10, 30, 12, 9.0), (3, 2, 8, 6, 2.5)]
    assert boxes(np.full((4, 4), np.nan, np.float32), 1.0) == []


def test_a_box_scores_its_own_region_and_not_a_neighbour_inside_its_corner():
    values = np.zeros((12, 12), np.float32)
    values[1:11, 1] = values[10, 1:11] = 2.0  # an L around ...
    values[3, 6] = 7.0  # ... a stronger dot
    assert boxes(values, 1.0) == [(6, 3, 7, 4, 7.0), (1, 1, 11, 11, 2.0)]


def test_the_truth_differs_from_detections_by_colour_and_by_gaps():
    ground = np.zeros((100, 100, 3), np.uint8)
    region = np.zeros((100, 100), bool)
    region[20:80, 20:80] = True
    solid, dashed = outline(ground, region, DETECTED), outline(ground, region, TRUTH, dashed=True)
    assert (solid[20, 25:75] == DETECTED).all()
    on = (dashed[20, 25:75] == TRUTH).all(axis=-1)
    assert 0.3 < on.mean() < 0.8
    assert not ground.any()  # drawn on a copy


def test_boxes_are_drawn_on_their_own_pixels():
    drawn = draw_boxes(np.zeros((50, 50, 3), np.uint8), [(10, 12, 30, 40, 1.0)])
    assert (drawn[12, 10:30] == DETECTED).all()
    assert (drawn[39, 10:30] == DETECTED).all()
    assert not drawn[20:35, 15:25].any()


def test_shrinking_keeps_the_thinnest_mask_and_the_aspect():
    one = example(size=(600, 800), mask=np.zeros((600, 800), bool))
    assert one.mask is not None
    one.mask[:, 400] = True
    small = one.resized(100)
    assert small.image.shape == (75, 100, 3)
    assert small.map.shape == (75, 100)
    assert small.mask is not None
    assert small.mask.any(axis=1).all()
    assert one.resized(1000) is one


def test_views_leave_the_truth_out_where_none_was_drawn():
    assert [name for name, _ in views(example(), Scale(1.0))] == ["image", "truth", "heatmap", "found"]
    assert [name for name, _ in views(example(mask=None), Scale(1.0))] == ["image", "heatmap", "found"]


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (40, 30)])
def test_a_panel_takes_any_shape_and_stays_within_its_size(size: tuple[int, int]):
    values = np.full(size, 0.5, np.float32)
    sheet = panel(
        example(size=(60, 80), image=np.zeros((*size, 3), np.uint8), map=values, mask=None, defect="ひび\n割れ" * 50),
        Scale(1.0),
        side=320,
    )
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] <= 320 + 40
    assert sheet.shape[1] <= 3 * 330 + 8


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..",
        ".",
        "",
        "/",
        "a/../../b",
        "C:\\..\\x.png",
        "\x00\n",
        "<img src=x onerror=alert(1)>",
        "-rf",
        ".hidden",
        "é" * 500,
    ],
)
def test_hostile_names_never_leave_the_folder(tmp_path: Path, name: str):
    folder = tmp_path / "pictures"
    path = save_picture(folder, example(path=name, defect=name), 1.0)
    assert path.is_file()
    assert path.resolve().is_relative_to(folder.resolve() / "ok")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    assert all(
        part.isprintable() and not set(part) & set('<>:"\\|?* ') and not part.startswith(("-", "."))
        for part in path.relative_to(folder).parts
    )


def test_names_stay_readable_and_never_meet():
    assert safe_name("scratch deep (2)") == "scratch_deep_2"
    one, other = picture_name(example("test/a/001.png")), picture_name(example("test/b/001.png"))
    assert one.parent == other.parent == Path("ok/scratch")
    assert one.name.startswith("001-")
    assert one != other
    assert picture_name(example("x?.png")) != picture_name(example("x!.png"))


@pytest.mark.parametrize(
    ("label", "decision", "folder"),
    [
        ("defect", "defect", "ok/scratch"),
        ("defect", "good", "wrong/scratch"),
        ("good", "defect", "wrong/scratch"),
        ("unknown", "good", "good"),
    ],
)
def test_pictures_are_sorted_by_verdict(tmp_path: Path, label, decision, folder: str):
    path = save_picture(tmp_path, example(label=label, decision=decision), 1.0)
    assert path.parent == tmp_path / folder


def test_pictures_need_no_torch():
    absent = "torch=None, scipy=None, sklearn=None, matplotlib=None"
    code = f"import sys; sys.modules.update({absent}); import vqi.evaluation.pictures; print('cv2' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
        == "False"
    )
