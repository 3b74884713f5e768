"""What is measured of photographs with boxes, outlines and regions to ignore, from a source to the metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from photograph_folders import photograph, write_files
from step_calls import ingest
from vqi.dataset.geometry import Geometry
from vqi.dataset.reader import Dataset
from vqi.evaluation.box_rule import BoxRule
from vqi.evaluation.collector import Collector
from vqi.evaluation.raw_maps import decode_png_map
from vqi.evaluation.results import compute_metrics, missing_notes
from vqi.evaluation.settings import EvaluationSettings
from vqi.evaluation.thresholds import Threshold

SIDE = 64
THRESHOLD = Threshold(
    image=0.5, pixel=0.5, floor=0.0, kind="cross", requested_false_reject_rate=0.1, false_reject_rate=0.1,
    chance_above=None, rate_95=None, either_rate=None, calibration_images=8, folds=4, guarantee="",
)  # fmt: skip
OUTLINE = {"label": "dent", "shape_type": "polygon", "points": [[8, 8], [15, 8], [15, 15], [8, 15]]}
BOX = {"label": "dent", "shape_type": "rectangle", "points": [[32, 32], [48, 44]]}
FAR_BOX = {"label": "dent", "shape_type": "rectangle", "points": [[50, 2], [60, 10]]}
IGNORED = {"label": "__ignore__", "shape_type": "rectangle", "points": [[0, 48], [64, 64]]}


def collected(
    folder: Path,
    shapes: dict[str, list[Any]],
    maps: dict[str, np.ndarray],
    settings: EvaluationSettings | None = None,
) -> tuple[Collector, Path]:
    files = {f"good/{number}.png": photograph(number, SIDE) for number in range(8)}
    for number, (name, drawn) in enumerate(shapes.items()):
        files[f"{name}.png"] = photograph(100 + number, SIDE)
        files[f"{name}.json"] = json.dumps({"shapes": drawn, "imagePath": f"{name}.png", "imageData": None}).encode()
    ingest(name="part", dataset=folder / "dataset", source=str(write_files(folder / "set", files)))
    data = Dataset(folder / "dataset")
    samples = data.samples("test")
    collector = Collector(data, samples, Geometry(size=(SIDE, SIDE)), THRESHOLD, BoxRule(), settings)
    for sample in samples:
        values = maps.get(sample.path, np.zeros((SIDE, SIDE), np.float32))
        collector.add(sample, float(values.max()), values, folder)
    return collector, folder / "pictures"


def spot(*places: tuple[int, int]) -> np.ndarray:
    values = np.zeros((SIDE, SIDE), np.float32)
    for y, x in places:
        values[y : y + 3, x : x + 3] = 1
    return values


def test_boxes_alone_have_a_recall_and_no_pixel_metric(tmp_path: Path) -> None:
    maps = {"a.png": spot((36, 40)), "b.png": spot((36, 40))}
    collector, _ = collected(tmp_path, {"a": [BOX], "b": [BOX, FAR_BOX]}, maps)
    metrics = compute_metrics(collector.predictions, collector.pixels, THRESHOLD, boxes=collector.boxes)
    assert (metrics.box_recall, collector.boxes.count) == (2 / 3, 3)
    assert (metrics.pixel_auroc, metrics.aupro, metrics.pixel_iou) == (None, None, None)
    notes = [*collector.notes(), *missing_notes(collector.predictions, collector.pixels, collector.boxes)]
    assert any("whose defects are drawn as boxes are left out of the pixel metrics" in note for note in notes)
    assert any("the defects are drawn as boxes, which have no shape to measure by" in note for note in notes)


def test_what_lies_in_a_box_or_an_ignored_region_counts_neither_way(tmp_path: Path) -> None:
    """Whatever the map says there, all metrics of pixels are the same."""
    shapes = {"a": [OUTLINE, BOX, IGNORED], "test/b": [IGNORED]}
    quiet, _ = collected(tmp_path / "quiet", shapes, {"a.png": spot((9, 9), (2, 30))})
    loud_maps = {"a.png": spot((9, 9), (2, 30), (36, 40), (55, 20)), "test/b.png": spot((52, 30))}
    loud, pictures = collected(tmp_path / "loud", shapes, loud_maps)
    assert quiet.pixels.ranking_metrics() == loud.pixels.ranking_metrics()
    assert quiet.pixels.confusion(0.5) == loud.pixels.confusion(0.5)
    assert (quiet.pixels.regions, quiet.boxes.recall(), loud.boxes.recall()) == (1, 0.0, 1.0)
    # Two good test photographs of folder good, b, and a without its outline, box and ignored rows.
    ignored = 16 * SIDE
    assert loud.pixels.good.size == 2 * SIDE**2 + (SIDE**2 - ignored) + SIDE**2 - ignored - 64 - 16 * 12
    assert any("Regions to ignore of 2 test image(s) are in no pixel metric" in note for note in loud.notes())
    assert len(list(pictures.rglob("*.png"))) == 4


def test_pictures_hatch_what_is_ignored(tmp_path: Path) -> None:
    from PIL import Image

    plain, hatched = ({"b": [OUTLINE]}, {"b": [OUTLINE, IGNORED]})
    pictures = []
    for number, shapes in enumerate((plain, hatched)):
        _, folder = collected(tmp_path / str(number), shapes, {"b.png": spot((9, 9))})
        (file,) = folder.rglob("b-*.png")
        with Image.open(file) as picture:
            pictures.append(np.asarray(picture).astype(int))
    assert pictures[0].shape == pictures[1].shape
    differs = np.abs(pictures[0] - pictures[1]).sum(axis=2) > 60
    views = np.array_split(differs, 4, axis=1)
    assert [bool(view.any()) for view in views] == [False, True, True, True]


@pytest.mark.parametrize("kind", ["boxes", "outlines"])
def test_a_set_without_them_says_nothing_of_them(tmp_path: Path, kind: str) -> None:
    collector, _ = collected(tmp_path, {"a": [OUTLINE if kind == "outlines" else BOX]}, {})
    numbers = compute_metrics(collector.predictions, collector.pixels, THRESHOLD, boxes=collector.boxes).numbers
    assert ("box_recall" in numbers) == (kind == "boxes")
    assert "au_spro" not in numbers


@pytest.mark.parametrize(
    ("pictures", "drawn"),
    [("some", {"ok", "wrong"}), ("all", {"ok", "wrong"}), ("wrong", {"wrong"}), ("none", set())],
)
def test_pictures_and_maps_are_those_that_are_wanted(tmp_path: Path, pictures: Any, drawn: set[str]) -> None:
    maps = {"a.png": spot((36, 40))}  # b.png is missed
    settings = EvaluationSettings(pictures=pictures, maps="png" if pictures == "none" else "none")
    collector, folder = collected(tmp_path, {"a": [BOX], "b": [BOX]}, maps, settings)
    files = list(folder.rglob("*.png")) if folder.exists() else []
    assert {path.relative_to(folder).parts[0] for path in files} == drawn
    if pictures == "all":
        assert len(files) == len(collector.predictions)
    written = sorted((tmp_path / "maps").rglob("*.png"))
    assert len(written) == (len(collector.predictions) if pictures == "none" else 0)
    for path in written:
        values = maps["a.png"] if path.name.startswith("a-") else np.zeros((SIDE, SIDE))
        np.testing.assert_allclose(decode_png_map(path.read_bytes()), values, atol=1e-4)
