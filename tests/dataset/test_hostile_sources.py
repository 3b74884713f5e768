"""Every format of lists and annotations, damaged in many ways: one sentence, nothing left behind, nothing outside of
the source opened."""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_sets import SIDE, as_json, photographs, png

from photograph_folders import write_files
from step_calls import ingest
from vqi.platform.errors import BadInput

Files = dict[str, bytes]
SECRET = "the words of another file"
HUGE = 10**400


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("../outside.txt", SECRET)
    return stream.getvalue()


# COCO

SQUARE = [4, 4, 9, 4, 9, 9, 4, 9]


def coco(change: Callable[[dict[str, Any]], None] = lambda value: None) -> Files:
    value: dict[str, Any] = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": SIDE, "height": SIDE} for n in range(4)],
        "categories": [{"id": 1, "name": "dent"}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 1, "segmentation": [list(SQUARE)], "bbox": [4, 4, 5, 5]}
        ],
    }
    change(value)
    return photographs(*(f"{n}.png" for n in range(4))) | {"set.json": as_json(value)}


def coco_image(name: Any) -> Files:
    return coco(lambda value: value["images"][0].update(file_name=name))


def coco_outline(outline: Any) -> Files:
    return coco(lambda value: value["annotations"][0].update(segmentation=outline))


COCO = {
    "whole": (coco(), ""),
    "truncated": (coco() | {"set.json": coco()["set.json"][:-20]}, r"set\.json is not JSON"),
    "wrong types": (coco(lambda value: value.update(annotations=7)), r"set\.json has no list of annotations"),
    "wrong types inside": (coco_outline({"counts": {"a": 1}, "size": "big"}), "run lengths without size or counts"),
    "absolute path": (coco_image("/etc/passwd"), "the absolute path '/etc/passwd'"),
    "path out": (coco_image("../../secret.png"), "leads out of the source"),
    "runs that overrun": (coco_outline({"counts": [5, 10**9], "size": [SIDE, SIDE]}), "cover 1000000005 pixels"),
    "millions of points": (coco_outline([[1.5] * 2_000_000]), "a polygon of 1000000 points"),
    "zip": (coco() | {"set.json": zipped(), "photos.zip": zipped()}, "The source has no JSON file with images"),
    "nan": (coco_outline([[1, 2, float("nan"), 4, 5, 6]]), "a polygon whose points are not finite"),
    "huge": (coco_outline([[1, 2, HUGE, 4, 5, 6]]), "a polygon whose points are not numbers"),
    "huge size": (coco(lambda value: value["images"][3].update(width=HUGE)), "has 32 x 32 pixels, and its annotation"),
    "twice": (coco() | {"set.json": coco()["set.json"].replace(b'"images":', b'"images": [], "images":')}, "twice"),
}

# LabelMe


def labelme(*shapes: Any, **changes: Any) -> Files:
    content = {"shapes": list(shapes), "imagePath": "3.png", "imageData": None, "imageWidth": SIDE, "imageHeight": SIDE}
    return photographs("good/0.png", "good/1.png", "3.png") | {"3.json": as_json(content | changes)}


def shape(*points: Any, kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": "dent", "shape_type": kind, "points": list(points), **more}


def elsewhere(name: Any) -> Files:
    files = labelme(shape([1, 1], [9, 1], [9, 9]), imagePath=name)
    return {"other.json": files.pop("3.json"), **files}


LABELME = {
    "whole": (labelme(shape([1, 1], [9, 1], [9, 9])), ""),
    "truncated": (labelme() | {"3.json": labelme()["3.json"][:-3]}, r"3\.json is not JSON"),
    "wrong types": (labelme(shapes={"a": 1}), r"3\.json has no list of shapes"),
    "wrong types inside": (labelme({"points": [[1, 2], "x"]}), "a point that is not x and y"),
    "absolute path": (elsewhere("/etc/passwd"), "the absolute path"),
    "path out": (elsewhere("../../secret.png"), "leads out of the source"),
    "a picture that overruns": (
        labelme(shape([0, 0], [3, 3], kind="mask", mask="iVBORw0KGgo=")),
        "a mask whose picture cannot be decoded",
    ),
    "millions of points": (labelme(shape(*[[1, 2]] * 1_000_001)), "has 1000001 points"),
    "zip": (labelme() | {"3.json": zipped()}, "The source has no JSON files with shapes"),
    "nan": (labelme(shape([1, 1], [9, float("nan")], [9, 9])), "in place of a number"),
    "huge": (labelme(shape([1, 1], [9, HUGE], [9, 9])), "in place of a number"),
    "huge size": (labelme(imageWidth=HUGE), "and its annotation is of"),
    "twice": (labelme() | {"3.json": labelme()["3.json"].replace(b'"shapes":', b'"shapes": [], "shapes":')}, "twice"),
}

# Pascal VOC


def voc(inside: str = "", before: str = "", name: str = "3.png") -> Files:
    text = f"{before}<annotation><filename>{name}</filename>{inside}</annotation>"
    return photographs("good/0.png", "good/1.png", "3.png") | {"other.xml": text.encode()}


def edges(*values: Any) -> str:
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), values, strict=True))
    return f"<object><name>dent</name><bndbox>{corners}</bndbox></object>"


VOC = {
    "whole": (voc(edges(1, 1, 9, 9)), ""),
    "truncated": (voc() | {"other.xml": voc()["other.xml"][:-5]}, r"other\.xml is not XML"),
    "wrong types": (voc(edges("a", 1, 9, 9)), "holds 'a' in place of a number"),
    "wrong types inside": (voc("<object>text</object>"), "has no bndbox"),
    "absolute path": (voc(name="/etc/passwd"), "the absolute path"),
    "path out": (voc(name="../../secret.png"), "leads out of the source"),
    "a box that overruns": (voc(edges(1, 1, 10**6, 9)), "a box off the photograph"),
    "millions of objects": (voc(edges(1, 1, 9, 9) * 10_001), "more than 10000 masks"),
    "zip": (voc() | {"other.xml": zipped()}, "The source has neither XML files"),
    "nan": (voc(edges("nan", 1, 9, 9)), "holds 'nan' in place of a number"),
    "huge": (voc(edges(1, 1, HUGE, 9)), "in place of a number"),
    "entities": (voc("&a;", before='<!DOCTYPE x [<!ENTITY a "b">]>'), "has a document type of its own"),
    "twice": (voc(edges(1, 1, 9, 9).replace("<ymin>", "<xmin>2</xmin><ymin>")), "twice"),
}

# YOLO


def yolo(line: str | bytes = "0 .5 .5 .2 .2", names: str = "names: [dent]") -> Files:
    files = photographs("images/0.png", "images/1.png", "images/3.png")
    return files | {
        "labels/3.txt": line if isinstance(line, bytes) else line.encode(),
        "data.yaml": names.encode(),
    }


YOLO = {
    "whole": (yolo(), ""),
    "truncated": (yolo("0 .5 .5 .2"), "has 3 numbers after the class"),
    "wrong types": (yolo("dent .5 .5 .2 .2"), "holds 'dent' in place of a number"),
    "wrong types inside": (yolo(names="names: {a: [1]}"), "has no names of classes"),
    "absolute path": (yolo(names="path: /etc\ntrain: /etc\nnames: [dent]"), ""),
    "path out": (yolo(names="path: ../..\ntrain: ../../images\nnames: [dent]"), ""),
    "a box that overruns": (yolo("0 9 9 .2 .2"), "a box off the photograph"),
    "millions of points": (yolo("0" + " .5 .5" * 1_000_000), "a polygon of 1000000 points"),
    "zip": (yolo(zipped()), "is not UTF-8|place of a number"),
    "nan": (yolo("0 .5 nan .2 .2"), "holds 'nan' in place of a number"),
    "huge": (yolo(f"0 .5 {HUGE} .2 .2"), "in place of a number"),
    "aliases": (yolo(names="a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]"), "has no names of classes"),
    "twice": (yolo(names="names: [dent]\nnames: [good]"), "twice"),
}

# A table

HEADER = "path,label,mask,boxes"


def table(row: str | bytes, header: str = HEADER) -> Files:
    rows = f"{header}\n0.png,good,,\n1.png,good,,\n".encode() + (row if isinstance(row, bytes) else row.encode())
    return photographs("0.png", "1.png", "3.png") | {"m.png": png((4, 4, 9, 9)), "set.csv": rows}


TABLE = {
    "whole": (table("3.png,dent,m.png,"), ""),
    "truncated": (table('3.png,"den'), "is not CSV|cells"),
    "wrong types": (table("3.png,dent,m.png,a b c d"), "in place of a number"),
    "wrong types inside": (table(b"3.png,dent,\xff\xfe,"), "is not UTF-8"),
    "absolute path": (table("/etc/passwd,dent,m.png,"), "the absolute path"),
    "path out": (table("3.png,dent,../../secret.png,"), "leads out of the source"),
    "a box that overruns": (table("3.png,dent,,1 1 1e9 9"), "a box off the photograph"),
    "millions of boxes": (table("3.png,dent,," + "1 1 2 2;" * 10_001), "more than 10000 masks"),
    "zip": (table("") | {"set.csv": zipped()}, "is not UTF-8"),
    "nan": (table("3.png,dent,,1 1 nan 9"), "holds 'nan' in place of a number"),
    "huge": (table(f"3.png,dent,,1 1 {HUGE} 9"), "in place of a number"),
    "a cell without end": (table("3.png," + "x" * 200_000 + ",,"), "is not CSV"),
    "twice": (table("3.png,dent,m.png,,", f"{HEADER},label"), "twice"),
    "twice the photograph": (table("0.png,good,,"), "names the photograph 0.png more than once"),
}
LINES = {
    "twice in a line": b'{"path": "3.png", "label": "dent", "label": "good"}',
    "truncated": b'{"path": "3.png", "label": ',
    "a list": b'["3.png", "dent"]',
    "deep": b'{"path": "3.png", "label": ' + b"[" * 100_000,
}
TABLE |= {
    f"JSON lines, {what}": (
        photographs("0.png", "3.png") | {"set.jsonl": b'{"path": "0.png", "label": "good"}\n' + line},
        r"set\.jsonl, line 2",
    )
    for what, line in LINES.items()
}

# List files


def lists(line: str | bytes, **more: bytes) -> Files:
    line = line if isinstance(line, bytes) else line.encode()
    files = photographs("0.png", "1.png", "3.png") | {"m.png": png((4, 4, 9, 9))}
    return files | {"train.txt": b"0.png\n1.png\n", "test.txt": line, **more}


LISTS = {
    "whole": (lists("3.png m.png"), ""),
    "truncated": (lists("3.pn"), r"test\.txt, line 1"),
    "wrong types": (lists(b"3.png \xff\xfe"), "is not UTF-8"),
    "wrong types inside": (lists("3.png 7", **{"labels.txt": b"good\n"}), "has the class 7"),
    "absolute path": (lists("/etc/passwd m.png"), "the absolute path"),
    "path out": (lists("3.png ../../secret.png"), "leads out of the source"),
    "a mask that overruns": (
        lists("3.png m.png") | {"m.png": png((4, 4, 9, 9), side=64)},
        "",  # the check names it
    ),
    "a line without end": (lists("x " * 100_000), r"test\.txt, line 1"),
    "zip": (lists(zipped()), r"test\.txt"),
    "nul": (lists("3.png\0 m.png"), r"test\.txt, line 1"),
    "huge": (lists(f"3.png {HUGE}", **{"labels.txt": b"good\n"}), "has the class|labels"),
    "zip as a mask": (lists("3.png m.png") | {"m.png": zipped()}, "is not an image"),
    "twice": (lists("0.png"), "names the photograph 0.png more than once"),
}

# MVTec LOCO's configuration

RULE = {"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 9, "relative_saturation": False}


def loco(config: Any) -> Files:
    files = photographs("train/good/0.png", "train/good/1.png", "test/logical_anomalies/3.png")
    content = config if isinstance(config, bytes) else as_json(config)
    return files | {"ground_truth/logical_anomalies/3/0.png": png((4, 4, 9, 9)), "defects_config.json": content}


LOCO = {
    "whole": (loco([RULE]), ""),
    "truncated": (loco(as_json([RULE])[:-3]), "is not JSON"),
    "wrong types": (loco({"a": 1}), "is not a list of defect_name"),
    "wrong types inside": (loco([RULE | {"relative_saturation": 1}]), "is not a list of defect_name"),
    "a path as a name": (loco([RULE | {"defect_name": "/etc/../passwd"}]), ""),
    "a value that overruns": (loco([RULE | {"pixel_value": 70_000}]), "is not a list of defect_name"),
    "a million rules": (loco(b"[" + b"0," * 1_000_000 + b"0]"), "larger than|is not a list"),
    "zip": (loco(zipped()), "is not UTF-8|is not JSON"),
    "nan": (loco([RULE | {"saturation_threshold": float("nan")}]), "is not a list of defect_name"),
    "infinite": (loco([RULE | {"saturation_threshold": float("inf")}]), "is not a list of defect_name"),
    "huge": (loco([RULE | {"saturation_threshold": HUGE}]), "is not a list of defect_name"),
    "twice": (loco([RULE, RULE]), "has one pixel_value twice"),
    "a key twice": (
        loco(json.dumps([RULE]).replace('"pixel_value":', '"pixel_value": 3, "pixel_value":').encode()),
        "twice",
    ),
}

# IDX


def idx(images: bytes | None = None, labels: bytes | None = None, **more: bytes) -> Files:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 28, 28), dtype=np.uint8).tobytes()
    whole = bytes([0, 0, 8, 3]) + struct.pack(">3I", 8, 28, 28) + pixels
    named = bytes([0, 0, 8, 1]) + struct.pack(">I", 8) + bytes([0, 1] * 4)
    return {
        "train-images-idx3-ubyte": whole if images is None else images,
        "train-labels-idx1-ubyte": named if labels is None else labels,
        "t10k-images-idx3-ubyte": whole[::1],
        "t10k-labels-idx1-ubyte": named,
        **more,
    }


def stated(*shape: int, pixels: bytes = bytes(8 * 28 * 28), kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + pixels


IDX = {
    "whole": (idx(), ""),
    "truncated": (idx(stated(8, 28, 28)[:-9]), "holds 6263 bytes and says 8 x 28 x 28"),
    "a truncated head": (idx(b"\0\0\x08\x03\0"), "is not an IDX file"),
    "wrong types": (idx(stated(8, 28, 28, kind=13)), "is not an IDX file"),
    "wrong dimensions": (idx(stated(8, 784)), "is not an IDX file"),
    "overrun": (idx(stated(2**32 - 1, 2**32 - 1, 2**32 - 1)), "and says 4294967295"),
    "nothing": (idx(stated(0, 28, 28, pixels=b"")), "and says 0 x 28 x 28"),
    "other labels": (idx(labels=stated(9, pixels=bytes(9))), "has 8 images, and its labels are 9"),
    "zip": (idx(zipped()), "is not an IDX file"),
    "packed and damaged": (
        {
            **{name: content for name, content in idx().items() if "train-images" not in name},
            "train-images-idx3-ubyte.gz": gzip.compress(bytes(9))[:-4],
            "train-labels-idx1-ubyte.gz": gzip.compress(bytes(9)),
        },
        "cannot be unpacked",
    ),
    "twice": (
        idx(**{f"{n}.gz": gzip.compress(c) for n, c in idx().items() if n.startswith("train")}),
        "twice|more than once",
    ),
}

FORMATS: dict[str, dict[str, tuple[Files, str]]] = {
    "coco": COCO,
    "labelme": LABELME,
    "voc": VOC,
    "yolo": YOLO,
    "table": TABLE,
    "lists": LISTS,
    "mvtec-loco": LOCO,
    "one-class": IDX,
}
# Which file of a format is made a link in an archive.
LISTING = {
    "coco": "set.json",
    "labelme": "3.json",
    "voc": "other.xml",
    "yolo": "labels/3.txt",
    "table": "set.csv",
    "lists": "test.txt",
    "mvtec-loco": "defects_config.json",
    "one-class": "train-labels-idx1-ubyte",
}


def bring_in(source: Path, dataset: Path, form: str) -> None:
    options = {"good_class": "1"} if form == "one-class" else {}
    ingest(name="part", dataset=dataset, source=str(source), layout=form, **options)


@pytest.mark.parametrize(("form", "damage"), [(form, damage) for form, cases in FORMATS.items() for damage in cases])
def test_what_is_damaged_is_one_sentence(
    tmp_path: Path, form: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, sentence = FORMATS[form][damage]
    source = write_files(tmp_path / "inside" / "source", files)
    (tmp_path / "secret.png").write_text(SECRET)
    opened: list[str] = []
    for module in ("builtins", "io"):
        monkeypatch.setattr(f"{module}.open", _noting(opened))
    if sentence:
        with pytest.raises(BadInput, match=sentence) as error:
            bring_in(source, tmp_path / "out" / "dataset", form)
        assert SECRET not in str(error.value)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 1000
        assert not (tmp_path / "out").exists()
    else:
        bring_in(source, tmp_path / "out" / "dataset", form)
    assert not [path for path in opened if re.search(r"secret|passwd", path)]


def _noting(opened: list[str]) -> Callable[..., Any]:
    def note(path: Any, *more: Any, **options: Any) -> Any:
        opened.append(str(path))
        return plain(path, *more, **options)

    plain = open
    return note


@pytest.mark.parametrize("form", FORMATS)
def test_a_link_out_of_an_archive_is_refused(tmp_path: Path, form: str) -> None:
    files, _ = FORMATS[form]["whole"]
    (tmp_path / "secret.txt").write_text(SECRET)
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if name == LISTING[form]:
                member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path / "secret.txt")
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    with pytest.raises(BadInput, match="link") as error:
        bring_in(tmp_path / "set.tar", tmp_path / "out" / "dataset", form)
    assert SECRET not in str(error.value)
    assert not (tmp_path / "out").exists()
