"""A set in another layout is the same set; a set with other splits keeps groups whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from photograph_folders import photograph, write_files
from step_calls import ingest
from vqi.dataset.manifest import Manifest
from vqi.dataset.reader import Dataset
from vqi.platform.errors import BadInput
from vqi.tools.conversion.losses import TARGETS
from vqi.tools.conversion.rows import Row, file_names, mask_png
from vqi.tools.conversion.split import SPLITS, check_shares, split_rows
from vqi_pipelines.commands.convert import convert, split

SIDE = 64


def labelme(*shapes: tuple[str, str, list[list[int]]]) -> bytes:
    drawn = [{"label": label, "shape_type": kind, "points": points} for label, kind, points in shapes]
    return json.dumps({"shapes": drawn, "imagePath": "", "imageData": None}).encode()


def outlined(label: str, left: int, top: int) -> tuple[str, str, list[list[int]]]:
    return label, "polygon", [[left, top], [left + 9, top], [left + 9, top + 5], [left, top + 5]]


def source(folder: Path, *, boxes: bool = False, decided: bool = True, unknown: bool = True) -> Path:
    """A set of LabelMe: outlines, and boxes and ignored regions where `boxes`."""
    train, test = ("train", "test") if decided else ("a", "b")
    files = {f"{train}/good/{number}.png": photograph(number, SIDE) for number in range(9)}
    files |= {f"{test}/good/{number}.png": photograph(20 + number, SIDE) for number in range(3)}
    for number in range(4):
        name = f"{test}/{'x' if number % 2 else 'y'}/{number}"
        files[f"{name}.png"] = photograph(40 + number, SIDE)
        shapes = [outlined("dent" if number < 2 else "deep scratch", 10 * number, 30)]
        if boxes and number == 3:
            shapes = [("dent", "rectangle", [[3, 5], [20, 30]]), ("dent", "rectangle", [[10, 12], [40, 33]])]
        if boxes and number == 2:
            shapes.append(("__ignore__", "polygon", [[0, 0], [60, 0], [60, 10]]))
        files[f"{name}.json"] = labelme(*shapes)
    if unknown:
        files[f"{test}/odd/7.png"] = photograph(60, SIDE)
    return write_files(folder / "source", files)


def by_content(folder: Path, where: Path, **values: Any) -> tuple[Manifest, dict[str, tuple[Any, ...]]]:
    """What a set says of each photograph, by the photograph's hash."""
    manifest = ingest(name="part", dataset=folder, source=str(where), **values)
    dataset, rows = Dataset(folder), {}
    for sample in manifest.samples:
        masks = [None if m is None else m.tobytes() for m in (dataset.outlines(sample), dataset.ignored(sample))]
        rows[sample.sha256] = (sample.split, sample.label, sample.defect, sample.boxes, *masks)
    return manifest, rows


@dataclass(frozen=True)
class Source:
    """A set that no test changes, and what ingest says of it."""

    folder: Path
    manifest: Manifest
    rows: dict[str, tuple[Any, ...]]


@pytest.fixture(scope="module")
def source_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Source]:
    """Each kind of source, made and brought in once."""
    made: dict[tuple[tuple[str, bool], ...], Source] = {}

    def make(**kind: bool) -> Source:
        key = tuple(sorted(kind.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("source")
            made[key] = Source(source(folder, **kind), *by_content(folder / "dataset", folder / "source"))
        return made[key]

    return make


@pytest.mark.parametrize("decided", [True, False])
@pytest.mark.parametrize("target", TARGETS)
def test_a_converted_set_is_the_same_set(
    tmp_path: Path, source_of: Callable[..., Source], target: str, decided: bool
) -> None:
    first = source_of(decided=decided, unknown=target != "coco")
    folder = first.folder
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    convert(str(folder), tmp_path / "out", target)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    second, found = by_content(tmp_path / "second", tmp_path / "out")
    assert found == first.rows
    trained = [[s.sha256 for s in manifest.samples if s.split == "train"] for manifest in (first.manifest, second)]
    assert trained[0] == trained[1]


@pytest.mark.parametrize("target", ["table", "coco"])
def test_boxes_and_ignored_regions_are_kept(tmp_path: Path, source_of: Callable[..., Source], target: str) -> None:
    first = source_of(boxes=True, unknown=False)
    convert(str(first.folder), tmp_path / "out", target)
    _, found = by_content(tmp_path / "second", tmp_path / "out")
    assert found == first.rows
    assert any(row[3] == ((3, 5, 20, 30), (10, 12, 40, 33)) for row in found.values())


def test_pycocotools_reads_what_is_written(tmp_path: Path, source_of: Callable[..., Source]) -> None:
    from pycocotools.coco import COCO

    first = source_of(boxes=True, unknown=False)
    convert(str(first.folder), tmp_path / "out", "coco")
    manifest, dataset = first.manifest, Dataset(first.folder.parent / "dataset")
    export = COCO(tmp_path / "out" / "instances_test.json")
    names = {category["id"]: category["name"] for category in export.loadCats(export.getCatIds())}
    outlines = {f"images/{s.path}": dataset.outlines(s) for s in manifest.samples if s.label == "defect"}
    compared = 0
    for image in export.loadImgs(export.getImgIds()):
        for annotation in export.loadAnns(export.getAnnIds(image["id"])):
            if annotation["segmentation"] and names[annotation["category_id"]] != "__ignore__":
                assert np.array_equal(export.annToMask(annotation) > 0, outlines[image["file_name"]])
                compared += 1
    assert compared == 3


def test_the_table_keeps_groups_and_metadata(tmp_path: Path) -> None:
    files = {f"{number}.png": photograph(number, SIDE) for number in range(6)}
    rows = [{"path": f"{n}.png", "label": "good", "group": f"g{n // 2}", "shift": f"s{n}"} for n in range(6)]
    files["set.jsonl"] = "\n".join(map(json.dumps, rows)).encode()
    convert(str(write_files(tmp_path / "source", files)), tmp_path / "out", "table")
    convert(str(tmp_path / "out"), tmp_path / "again", "coco")
    for where in ("out", "again"):
        manifest, _ = by_content(tmp_path / f"dataset-{where}", tmp_path / where)
        assert [(s.group, dict(s.metadata)["shift"]) for s in manifest.samples] == [
            (f"g{n // 2}", f"s{n}") for n in range(6)
        ]


@pytest.mark.parametrize("target", ["mvtec", "lists"])
def test_what_is_lost_is_said_and_nothing_written(
    tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = source(tmp_path, boxes=True)
    with pytest.raises(BadInput, match=r"defects drawn as boxes, .*regions to ignore, .*Figures change by that"):
        convert(str(folder), tmp_path / "out", target)
    assert capsys.readouterr().out.count("\nlost: ") == 2
    assert not (tmp_path / "out").exists()
    convert(str(folder), tmp_path / "out", target, lossy=True)
    assert (tmp_path / "out").is_dir()


def loco(folder: Path) -> Path:
    """A set of MVTec LOCO: two regions of one photograph, painted otherwise, a third without a rule."""
    names = [f"train/good/{number}.png" for number in range(4)] + ["test/good/0.png"]
    names += ["test/logical_anomalies/0.png", "test/structural_anomalies/0.png"]
    files = {name: photograph(number, SIDE) for number, name in enumerate(names)}
    regions = {"logical_anomalies/0/000": (255, 4), "logical_anomalies/0/001": (250, 20)}
    for name, (value, left) in (regions | {"structural_anomalies/0/000": (7, 30)}).items():
        painted = np.zeros((SIDE, SIDE), bool)
        painted[10:20, left : left + 9] = True
        files[f"ground_truth/{name}.png"] = mask_png(painted, value)
    rules = [("missing", 255, 9, False), ("scratch", 250, 0.5, True)]
    keys = ("defect_name", "pixel_value", "saturation_threshold", "relative_saturation")
    files["defects_config.json"] = json.dumps([dict(zip(keys, rule, strict=True)) for rule in rules]).encode()
    return write_files(folder / "source", files)


def saturated(folder: Path, where: Path) -> tuple[Any, dict[str, list[tuple[bytes, float]]]]:
    manifest, dataset = ingest(name="part", dataset=folder, source=str(where)), Dataset(folder)
    regions = {s.sha256: [(m.tobytes(), share) for m, share in dataset.saturated_regions(s)] for s in manifest.samples}
    return manifest.saturation, regions


def test_saturation_thresholds_are_kept(tmp_path: Path) -> None:
    convert(str(loco(tmp_path)), tmp_path / "out", "mvtec")
    first, second = (saturated(tmp_path / f"dataset-{name}", tmp_path / name) for name in ("source", "out"))
    assert first == second
    assert sorted(share for regions in first[1].values() for _, share in regions) == [9 / 90, 0.5, 1.0]


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "mvtec"])
def test_saturation_thresholds_that_are_lost_are_said(tmp_path: Path, target: str) -> None:
    sentence = f"saturation thresholds of sPRO, which {target} cannot hold.* Figures change by that"
    with pytest.raises(BadInput, match=sentence):
        convert(str(loco(tmp_path)), tmp_path / "out", target)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", ["xml", "mvtec-ad-2", ""])
def test_layouts_that_are_not_written(tmp_path: Path, target: str) -> None:
    with pytest.raises(BadInput, match="--to is "):
        convert(str(source(tmp_path)), tmp_path / "out", target)


def test_places_that_are_not_written_to(tmp_path: Path) -> None:
    folder = source(tmp_path)
    with pytest.raises(BadInput, match="exists already"):
        convert(str(folder), folder, "table")
    with pytest.raises(BadInput, match="lies in the source"):
        convert(str(folder), folder / "out", "table")
    assert not (folder / "out").exists()


def test_a_set_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vqi.tools.conversion import writers

    def fail(mask: np.ndarray) -> bytes:
        raise BadInput("a mask that fails")

    monkeypatch.setattr(writers, "mask_png", fail)
    with pytest.raises(BadInput, match="a mask that fails"):
        convert(str(source(tmp_path)), tmp_path / "new" / "out", "table")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_names_that_sorting_would_move_get_numbers() -> None:
    assert file_names(["a/1.png", "b/2.png"]) == ["1.png", "2.png"]
    assert file_names(["a/2.png", "b/1.png"]) == ["0_2.png", "1_1.png"]
    assert file_names(["a/1.png", "b/1.jpg"]) == ["0_1.png", "1_1.jpg"]


def splits_of(folder: Path) -> dict[str, tuple[str, str]]:
    manifest = ingest(name="part", dataset=folder.with_name(f"{folder.name}-dataset"), source=str(folder))
    held = {"calibration": "train"}
    return {s.path: (held.get(s.split, s.split), s.defect) for s in manifest.samples}


def test_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = source(tmp_path)
    for number in range(2):
        split(str(folder), tmp_path / f"out{number}", train=60, val=20, test=20, seed=1)
    found = splits_of(tmp_path / "out0")
    assert found == splits_of(tmp_path / "out1")
    counts = Counter(found.values())
    assert (counts["train", "good"], counts["validation", "good"], counts["test", "good"]) == (7, 3, 2)
    assert {key[0] for key in counts if key[1] != "good"} == {"validation", "test"}
    assert counts["test", "dent"] == counts["validation", "dent"] == 1
    assert counts["test", "unknown"] == 1
    assert "train: 7 photographs (good 7)" in capsys.readouterr().out
    split(str(folder), tmp_path / "other", train=60, val=20, test=20, seed=2)
    assert splits_of(tmp_path / "other") != found


def test_groups_stay_whole(tmp_path: Path) -> None:
    files = {f"good/part{n // 3}_{n}.png": photograph(n, SIDE) for n in range(30)}
    files |= {f"dent/part{n}_{50 + n}.png": photograph(50 + n, SIDE) for n in range(3)}
    folder = write_files(tmp_path / "source", files)
    split(str(folder), tmp_path / "out", train=70, test=30, set_=["data.group=part(\\d+)_"])
    groups: dict[str, set[str]] = {}
    for path, (name, _) in splits_of(tmp_path / "out").items():
        groups.setdefault(path.split("part")[1].split("_")[0], set()).add(name)
    assert {len(names) for names in groups.values()} == {1}
    assert all(groups[number] == {"test"} for number in ("0", "1", "2"))


@pytest.mark.parametrize(
    ("shares", "sentence"),
    [
        ({"train": 80, "validation": 10, "test": 20}, "they sum to 100"),
        ({"train": 120, "validation": -20, "test": 0}, "each lies between 0 and 100"),
        ({"train": 0, "validation": 50, "test": 50}, "--train is 0"),
    ],
)
def test_percentages_that_cannot_be(tmp_path: Path, shares: Any, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        check_shares(shares)
    with pytest.raises(BadInput, match=sentence):
        split("not read", tmp_path / "out", shares["train"], shares["validation"], shares["test"])


def test_defects_without_a_split_to_test_in(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"There are defects .*, which are never trained on"):
        split(str(source(tmp_path)), tmp_path / "out", train=100)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("groups", [1, 2, 3, 7, 100])
def test_every_split_with_a_share_gets_a_group_where_there_are_enough(
    source_of: Callable[..., Source], groups: int
) -> None:
    sample = next(s for s in source_of(decided=True, unknown=True).manifest.samples if s.label == "good")
    rows = [Row(replace(sample, path=str(n), sha256=str(n)), None, "train", "") for n in range(groups)]
    counts = Counter(row.split for row in split_rows(rows, {"train": 80, "validation": 15, "test": 5}, 0))
    assert counts.total() == groups
    assert len(counts) == min(groups, 3)
    if groups == 100:
        assert [counts[name] for name in SPLITS] == [80, 15, 5]
