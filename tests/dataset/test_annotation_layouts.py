"""Exports of annotation tools: COCO, LabelMe, Pascal VOC, YOLO."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_sets import SIDE, as_json, by_path, photographs, png, read
from PIL import Image

from step_calls import ingest
from vqi.dataset.drawings import draw_mask
from vqi.dataset.layouts.interface import Box, Photograph, Polygon
from vqi.dataset.reader import Dataset
from vqi.platform.errors import BadInput


def drawn(photograph: Photograph) -> np.ndarray:
    """What the drawings of a photograph mark."""
    return draw_mask([m for m in photograph.masks if not isinstance(m, str)], SIDE, SIDE, photograph.path)


SQUARE = [4, 4, 9, 4, 9, 9, 4, 9]


def coco(**changes: Any) -> dict[str, Any]:
    image = {"width": SIDE, "height": SIDE}
    mask = np.zeros((SIDE, SIDE), bool)
    mask[2:5, 10:12] = True
    flat = mask.T.ravel()
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    return {
        "images": [{"id": n, "file_name": f"{n}.png", **image} for n in range(5)]
        + [{"id": "x", "file_name": "i/5.png"}],
        "categories": [{"id": 1, "name": "dent"}, {"id": 2, "name": "scratch"}, {"id": 3, "name": "__ignore__"}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 1, "segmentation": [SQUARE], "bbox": [4, 4, 5, 5], "iscrowd": 0},
            {
                "id": 2,
                "image_id": 3,
                "category_id": 2,
                "segmentation": {"counts": np.diff(edges).tolist(), "size": [SIDE, SIDE]},
                "iscrowd": 1,
            },
            {"id": 3, "image_id": 4, "category_id": 1, "segmentation": [], "bbox": [1, 2, 3, 4]},
            {"id": 4, "image_id": 2, "category_id": 3, "segmentation": [SQUARE], "bbox": [4, 4, 5, 5]},
        ],
        **changes,
    }


def coco_files(value: Any) -> dict[str, bytes]:
    content = value if isinstance(value, bytes) else as_json(value)
    return photographs(*(f"images/{n}.png" for n in range(5)), "images/i/5.png", "images/spare.png") | {
        "annotations/instances_default.json": content
    }


def test_coco(tmp_path: Path) -> None:
    reading = read(tmp_path, coco_files(coco()))
    assert reading.layout == "coco"
    found = by_path(reading)
    assert {path: (p.split, p.label, p.defect) for path, p in found.items()} == {
        **{f"images/{n}.png": (None, "good", "good") for n in range(3)},
        "images/3.png": ("test", "defect", "dent+scratch"),
        "images/4.png": ("test", "defect", "dent"),
        "images/i/5.png": (None, "good", "good"),
    }
    expected = np.zeros((SIDE, SIDE), bool)
    expected[4:10, 4:10] = expected[2:5, 10:12] = True
    assert np.array_equal(drawn(found["images/3.png"]), expected)
    (box,) = found["images/4.png"].masks
    assert isinstance(box, Box)
    assert (box.x1, box.y1, box.x2, box.y2) == (1, 2, 4, 6)
    assert isinstance(found["images/2.png"].ignore[0], Polygon)
    assert (found["images/0.png"].size, found["images/i/5.png"].size) == ((SIDE, SIDE), None)
    assert any("1 image file left out: no COCO file lists them (images/spare.png)" in note for note in reading.notes)
    ingest(name="coco", dataset=tmp_path / "dataset", source=str(tmp_path / "set"))
    dataset = Dataset(tmp_path / "dataset")
    sample = next(sample for sample in dataset.manifest.samples if sample.path == "images/3.png")
    outlines = dataset.outlines(sample)
    assert outlines is not None
    assert np.array_equal(outlines, expected)


def test_coco_that_pycocotools_wrote(tmp_path: Path) -> None:
    from pycocotools.mask import encode

    mask = np.random.default_rng(0).random((SIDE, SIDE)) > 0.6
    runs = encode(np.asfortranarray(mask.astype(np.uint8)))
    value = coco()
    value["annotations"] = [
        {"id": 1, "image_id": 3, "category_id": 1, "segmentation": {**runs, "counts": runs["counts"].decode()}}
    ]
    assert np.array_equal(drawn(by_path(read(tmp_path, coco_files(value)))["images/3.png"]), mask)


def test_coco_by_split_as_roboflow_exports_it(tmp_path: Path) -> None:
    """Names that come in several folders are those beside the file."""
    one = {"categories": [{"id": 0, "name": "dent"}], "images": [{"id": 0, "file_name": "a.jpg"}], "annotations": []}
    files = photographs("train/a.jpg", "valid/a.jpg")
    files |= {f"{split}/_annotations.coco.json": as_json(one) for split in ("train", "valid")}
    assert {p.path: p.split for p in read(tmp_path, files).photographs} == {
        "train/a.jpg": "train",
        "valid/a.jpg": "test",
    }


def changed(part: str, position: int, **values: Any) -> dict[str, Any]:
    value = coco()
    value[part][position] |= values
    return value


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (as_json(coco())[:-9], "is not JSON"),
        (b'"images" "annotations" "categories"', "is not JSON"),
        (b'["images", "annotations", "categories"]', "has no list of categories"),
        (coco(annotations={}), "has no list of annotations"),
        (coco(images=[3]), "has no list of images"),
        (changed("images", 0, file_name="/etc/passwd"), "the absolute path '/etc/passwd'"),
        (changed("images", 0, file_name="../../secret.png"), "leads out of the source"),
        (changed("images", 0, file_name="none.png"), "the source has no file"),
        (changed("images", 0, file_name=None), "write the path of a file"),
        (changed("images", 0, file_name="1.png"), "names the photograph images/1.png more than once"),
        (changed("images", 0, id=1), "lists two images with one id"),
        (changed("annotations", 0, image_id=99), "annotations of the image 99"),
        (changed("annotations", 0, category_id=9), "annotation 1 has the category 9"),
        (changed("annotations", 0, segmentation=[[1, 2, 3]]), "a polygon that is not x, y"),
        (changed("annotations", 0, segmentation=[[0.5] * 60_000]), "a polygon of 30000 points, more than 20000"),
        (changed("annotations", 0, segmentation=[["a", "b"] * 3]), "a polygon whose points are not numbers"),
        (changed("annotations", 0, segmentation=None, bbox=[1, 2]), "neither an outline nor a box"),
        (changed("annotations", 0, segmentation=None, bbox=[1, 2, 3, "x"]), "in place of a number"),
        (changed("annotations", 1, segmentation={"size": [SIDE, SIDE]}), "run lengths without size or counts"),
        (changed("annotations", 1, segmentation={"size": [SIDE, -1], "counts": [1]}), "a run-length mask of 32 x -1"),
    ],
)
def test_damaged_coco(tmp_path: Path, value: Any, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read(tmp_path, coco_files(value))


@pytest.mark.parametrize(
    ("runs", "sentence"),
    [
        ({"counts": [5, 10**9], "size": [SIDE, SIDE]}, "whose runs cover 1000000005 pixels of 1024"),
        ({"counts": "~~~~~~~~~~", "size": [SIDE, SIDE]}, "whose text is not COCO's"),
        ({"counts": [SIDE * SIDE], "size": [SIDE, SIDE * 10]}, "a run-length mask of 320 x 32 pixels"),
    ],
)
def test_run_lengths_that_overrun(tmp_path: Path, runs: Any, sentence: str) -> None:
    read(tmp_path, coco_files(changed("annotations", 1, segmentation=runs)))
    with pytest.raises(BadInput, match=sentence):
        ingest(name="coco", dataset=tmp_path / "dataset", source=str(tmp_path / "set"))
    assert not (tmp_path / "dataset").exists()


def shape(kind: str, *points: Any, label: str = "dent", **more: Any) -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": list(points), "group_id": None, "flags": {}, **more}


def labelme(*shapes: Any, **changes: Any) -> bytes:
    content = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": "x.jpg", "imageData": None}
    return as_json(content | {"imageWidth": SIDE, "imageHeight": SIDE} | changes)


def test_labelme(tmp_path: Path) -> None:
    files = photographs("good/0.png", "good/1.png", "line/2.png", "line/3.png", "line/4.png")
    patch = base64.b64encode(png((0, 0, 3, 3), value=1, side=4)).decode()
    files["line/2.json"] = labelme(
        shape("polygon", [4, 4], [9, 4], [9, 9], [4, 9]),
        shape("rectangle", [20, 25], [12, 22], label="scratch"),
        shape("circle", [20, 10], [20, 13]),
        shape("line", [0, 30], [31, 30]),
        shape("linestrip", [1, 20], [5, 20], [5, 24]),
        shape("point", [30, 2]),
        shape("mask", [15, 1], [18, 4], mask=patch),
        shape("polygon", [0, 0], [3, 0], [3, 3], label="__ignore__"),
        imagePath="..\\other name.png",
    )
    files["line/3.json"] = labelme()
    reading = read(tmp_path, files)
    assert reading.layout == "labelme"
    found = by_path(reading)
    assert {path: (p.label, p.defect) for path, p in found.items()} == {
        "good/0.png": ("good", "good"),
        "good/1.png": ("good", "good"),
        "line/2.png": ("defect", "dent+scratch"),
        "line/3.png": ("good", "good"),
        "line/4.png": ("unknown", "unknown"),
    }
    assert any("1 photograph without a file of LabelMe labelled unknown (line/4.png)" in note for note in reading.notes)
    mask = drawn(found["line/2.png"])
    for inside in ((6, 6), (23, 15), (10, 20), (30, 12), (20, 3), (22, 5), (2, 30), (2, 16)):
        assert mask[inside], inside
    for outside in ((1, 1), (15, 20), (29, 12), (22, 2), (4, 18)):
        assert not mask[outside], outside
    boxes = [item for item in found["line/2.png"].masks if isinstance(item, Box)]
    assert [(box.x1, box.y1, box.x2, box.y2) for box in boxes] == [(12, 22, 20, 25)]
    assert len(found["line/2.png"].ignore) == 1


def test_labelme_that_labelme_wrote(tmp_path: Path) -> None:
    """A mask as `labelme._label_file.LabelFile.save` of labelme 6.3.1 wrote it."""
    written = """{"version": "6.3.1", "flags": {"checked": true}, "shapes": [{"label": "dent", "points":
        [[20.0, 10.0], [26.0, 18.0]], "group_id": null, "description": "", "shape_type": "mask", "flags": {}, "mask":
        "iVBORw0KGgoAAAANSUhEUgAAAAcAAAAJCAAAAADbM2l/AAAAKElEQVR4nDXLwRGAABDCwM3137M+UD4wAUimcLMu6PH3bXWLQ/KdewEsgQ\
EYVaRohgAAAABJRU5ErkJggg=="}], "imagePath": "3.png", "imageData": null, "imageHeight": 32, "imageWidth": 32}"""
    reading = read(tmp_path, photographs("good/0.png", "good/1.png", "3.png") | {"3.json": written.encode()})
    rows, columns = np.nonzero(drawn(by_path(reading)["3.png"]))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True))[:6] == [
        (10, 21),
        (10, 23),
        (11, 23),
        (12, 22),
        (12, 23),
        (12, 26),
    ]
    assert len(rows) == 23


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (labelme()[:-5], "0.json is not JSON"),
        (as_json([{"shapes": 1, "imagePath": 2}]), "0.json has no list of shapes"),
        (labelme(3), "shape 0 has no points"),
        (labelme(shape("polygon", [1, 2], [3, 4])), "shape 0 is a polygon of 2 points, fewer than 3"),
        (labelme(shape("polygon", [1, 2], [3, "x"], [4, 4])), "shape 0 holds 'x' in place of a number"),
        (labelme(shape("polygon", [1, 2], 3, [4, 4])), "shape 0 has a point that is not x and y"),
        (labelme(shape("polygon", *[[1, 2]] * 20_001)), "a polygon of 20001 points, more than 20000"),
        (labelme(shape("spline", [1, 2])), "shape 0 is a 'spline'"),
        (labelme(shape("mask", [0, 0], [3, 3], mask="!!")), "a mask whose picture cannot be decoded"),
        (
            labelme(shape("mask", [31, 31], [34, 34], mask=base64.b64encode(png(side=4)).decode())),
            "beyond the photograph",
        ),
        (labelme(shape("mask", [0, 0], [3, 3], mask=base64.b64encode(png(side=64)).decode())), "larger than the photo"),
    ],
)
def test_damaged_labelme(tmp_path: Path, content: bytes, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read(tmp_path, photographs("0.png", "good/1.png") | {"0.json": content})


@pytest.mark.parametrize("name", ["/etc/passwd", "../../etc/passwd", "C:\\x.png", "none.png", "", None])
def test_labelme_files_without_a_photograph(tmp_path: Path, name: Any) -> None:
    with pytest.raises(BadInput, match=r"^other\.json names "):
        read(tmp_path, photographs("good/1.png") | {"other.json": labelme(imagePath=name)})


def xml(*objects: str, name: str = "x.jpg", more: str = "") -> bytes:
    size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
    return f"{more}<annotation><filename>{name}</filename>{size}{''.join(objects)}</annotation>".encode()


def box(name: str, *edges: Any) -> str:
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True))
    return f"<object><name>{name}</name><difficult>0</difficult><bndbox>{corners}</bndbox></object>"


def palette(values: np.ndarray) -> bytes:
    image = Image.fromarray(values, "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [7] * 756 + [224, 224, 192])
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_voc(tmp_path: Path) -> None:
    files = photographs(*(f"JPEGImages/{n}.jpg" for n in range(5)))
    painted = np.zeros((SIDE, SIDE), np.uint8)
    painted[5:9, 5:9] = 2
    painted[9, 5:9] = 255
    files |= {
        "Annotations/0.xml": xml(),
        "Annotations/1.xml": xml(box("dent", 1, 3, 10, 12), box("hole", 4, 4, 5, 5)),
        "Annotations/2.xml": xml(box("dent", 6, 6, 9, 9)),
        "SegmentationClass/2.png": palette(painted),
        "SegmentationClass/3.png": palette(np.zeros((SIDE, SIDE), np.uint8)),
        "ImageSets/Main/train.txt": b"0\n3 1\n",
        "ImageSets/Main/val.txt": b"1\n2\n",
    }
    reading = read(tmp_path, files)
    assert reading.layout == "voc"
    found = by_path(reading)
    assert {path[11]: (p.split, p.label, p.defect) for path, p in found.items()} == {
        "0": ("train", "good", "good"),
        "1": ("test", "defect", "dent+hole"),
        "2": ("test", "defect", "dent"),
        "3": ("train", "good", "good"),
        "4": ("test", "unknown", "unknown"),
    }
    boxes = [(b.x1, b.y1, b.x2, b.y2) for b in found["JPEGImages/1.jpg"].masks if isinstance(b, Box)]
    assert boxes == [(0, 2, 10, 12), (3, 3, 5, 5)]
    assert np.array_equal(drawn(found["JPEGImages/2.jpg"]), painted == 2)
    ignored = draw_mask(found["JPEGImages/2.jpg"].ignore, SIDE, SIDE, "")  # type: ignore[arg-type]
    assert np.array_equal(ignored, painted == 255)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (xml()[:-4], "0.xml is not XML"),
        (xml(more='<!DOCTYPE a [<!ENTITY b "c">]>'), "0.xml has a document type of its own"),
        (xml(more='<?xml version="1.0"?><!doctype a SYSTEM "file:///etc/passwd">'), "has a document type of its own"),
        (b"<html><annotation/></html>", "is not an annotation of Pascal VOC but <html>"),
        ("<annotation/>".encode("utf-16"), "0.xml is not UTF-8|is not recognised|Are all"),
        (xml("<object><name>x</name></object>"), "object 0 has no bndbox"),
        (xml(box("x", 1, 2, 3, "y")), "object 0, ymax holds 'y'"),
        (xml(box("x", 9, 9, 3, 3)), "object 0 has a box from .8, 8. to .3, 3., which holds nothing"),
        (b"<annotation>" * 4000, "0.xml is not XML"),
    ],
)
def test_damaged_voc(tmp_path: Path, content: bytes, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read(tmp_path, photographs("0.png", "1.png") | {"0.xml": content})


@pytest.mark.parametrize("name", ["/etc/passwd", "../../etc/passwd", "none.png"])
def test_voc_files_without_a_photograph(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match=r"^other\.xml names "):
        read(tmp_path, photographs("good/1.png") | {"other.xml": xml(name=name)})


def yolo(line: str, names: str = "names: [dent, ok]") -> dict[str, bytes]:
    files = photographs(*(f"images/train/{n}.jpg" for n in range(3)), "images/val/3.jpg", "images/val/4.jpg")
    files |= {"labels/train/0.txt": b"", "labels/val/3.txt": line.encode(), "labels/val/4.txt": b"1 .5 .5 .1 .1\n"}
    return files | {"data.yaml": f"train: images/train\nval: images/val\n{names}\n".encode()}


def test_yolo(tmp_path: Path) -> None:
    reading = read(tmp_path, yolo("0 0.5 0.25 0.25 0.125\n\n0 .1 .1 .2 .1 .2 .2\n"))
    assert reading.layout == "yolo"
    found = by_path(reading)
    assert {path: (p.split, p.label, p.defect) for path, p in found.items()} == {
        **{f"images/train/{n}.jpg": ("train", "good", "good") for n in range(3)},
        "images/val/3.jpg": ("test", "defect", "dent"),
        "images/val/4.jpg": ("test", "good", "good"),
    }
    drawn_box, outline = found["images/val/3.jpg"].masks
    assert isinstance(drawn_box, Box)
    assert isinstance(outline, Polygon)
    assert (drawn_box.x1, drawn_box.y1, drawn_box.x2, drawn_box.y2) == (0.375, 0.1875, 0.625, 0.3125)
    assert any("2 photographs without a file of labels taken as good" in note for note in reading.notes)
    mapped = read(tmp_path, yolo("5 .5 .5 .1 .1", "names: {5: deep dent, 1: ok}"))
    assert by_path(mapped)["images/val/3.jpg"].defect == "deep dent"


@pytest.mark.parametrize(
    ("line", "names", "sentence"),
    [
        ("0 .1 .2 .3", "names: [a, ok]", "3.txt, line 1 has 3 numbers after the class"),
        ("0 .1 .2 .3 .4 .9", "names: [a, ok]", "line 1 has 5 numbers after the class"),
        ("7 .1 .2 .3 .4", "names: [a, ok]", "line 1 has the class 7, and 2 have names"),
        ("0 .1 .2 .3 x", "names: [a, ok]", "line 1 holds 'x' in place of a number"),
        ("0 .1 .2 nan .4", "names: [a, ok]", "in place of a number"),
        ("0 .1 .2 0 .4", "names: [a, ok]", "which holds nothing"),
        ("0 .5 .5 .1 .1", "names: {a: b}", "data.yaml has no names of classes"),
        ("0 .5 .5 .1 .1", "a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]", "data.yaml has no names of classes"),
        ("0 .5 .5 .1 .1", "names: [a", "data.yaml is not YAML"),
        ("0 .5 .5 .1 .1", "names: !!python/object:os.system x", "data.yaml is not YAML"),
    ],
)
def test_damaged_yolo(tmp_path: Path, line: str, names: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read(tmp_path, yolo(line, names))
