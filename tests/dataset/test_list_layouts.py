"""List files, tables, one class that is good, and patterns of paths."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from layout_sets import as_json, by_path, photographs, png, read, rows
from PIL import Image

from step_calls import ingest
from vqi.dataset.layouts.interface import Box
from vqi.dataset.reader import Dataset
from vqi.platform.errors import BadInput

GOOD = ("good", "good", ())


def lists() -> dict[str, bytes]:
    files = photographs("images/a 1.png", "images/b.png", "images/c.png", "images/d.png", "images/spare.png")
    files |= {f"annotations/{name}.png": png() for name in ("a 1", "b", "c")}
    files["annotations/d.png"] = png((4, 4, 8, 8), value=1)
    files["train.txt"] = b"images/a 1.png annotations/a 1.png\r\nimages/b.png\tannotations/b.png\n\n"
    files["val.txt"] = b"\xef\xbb\xbfimages/c.png annotations/c.png\nimages/d.png annotations/d.png\n"
    return files


def test_list_files(tmp_path: Path) -> None:
    reading = read(tmp_path, lists())
    assert reading.layout == "lists"
    assert rows(reading) == {
        "images/a 1.png": ("train", *GOOD),
        "images/b.png": ("train", *GOOD),
        "images/c.png": ("test", *GOOD),
        "images/d.png": ("test", "defect", "defect", ("annotations/d.png",)),
    }
    assert any(note.startswith("The source has no test split: its validation split") for note in reading.notes)
    assert any(
        note.startswith("1 image file left out: no list names them (images/spare.png)") for note in reading.notes
    )


def test_lists_that_number_classes(tmp_path: Path) -> None:
    files = photographs("a.png", "b.png", "c.png") | {"train.txt": b"a.png 0\n", "test.txt": b"b.png 0\nc.png 1\n"}
    with pytest.raises(BadInput, match=r"number classes, and no labels\.txt says which is good"):
        read(tmp_path, files)
    reading = read(tmp_path, files | {"labels.txt": b"0 good\n1 dent\n"})
    assert rows(reading)["c.png"] == ("test", "defect", "dent", ())
    assert {name: row[1] for name, row in rows(reading).items()} == {
        "a.png": "good",
        "b.png": "good",
        "c.png": "defect",
    }


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/etc/passwd", "train.txt, line 3: .* the absolute path '/etc/passwd'"),
        ("../secret.png", "train.txt, line 3: .* '../secret.png', which leads out of the source"),
        ("images/none.png", "train.txt, line 3: .* the source has no file 'images/none.png'"),
        ("images/c.png ../../x.png", "train.txt, line 3: .*leads out of the source"),
        ("images/c.png C:\\x.png", "train.txt, line 3: .*absolute path"),
        ("images/b.png", "names the photograph images/b.png more than once"),
    ],
)
def test_lines_that_name_no_photograph(tmp_path: Path, line: str, sentence: str) -> None:
    content = b"images/a 1.png annotations/a 1.png\nimages/b.png annotations/b.png\n" + line.encode()
    with pytest.raises(BadInput, match=sentence):
        read(tmp_path, lists() | {"train.txt": content, "val.txt": b""})


TABLE = (
    "path,split,label,defect,mask,ignore,boxes,group,camera\n"
    "a.png,train,good,,,,,p1,left\n"
    "b.png,test,OK,,,i.png,,p2,right\n"
    "c.png,test,defect,dent,m/1.png;m/2.png,,,p2,\n"
    'd.png,,scratch,,,,"1 2 5 6; 7 8 9.5 10",,left\n'
    "e.png,test,,,,,,,\n"
)


def table() -> dict[str, bytes]:
    masks = {"m/1.png": png((1, 1, 4, 4)), "m/2.png": png((8, 8, 9, 9)), "i.png": png((0, 0, 9, 9))}
    return photographs(*(f"{name}.png" for name in "abcde")) | masks | {"set.csv": TABLE.encode()}


def test_a_table(tmp_path: Path) -> None:
    reading = read(tmp_path, table())
    assert reading.layout == "table"
    found = by_path(reading)
    assert {path: (p.split, p.label, p.defect) for path, p in found.items()} == {
        "a.png": ("train", "good", "good"),
        "b.png": ("test", "good", "good"),
        "c.png": ("test", "defect", "dent"),
        "d.png": ("test", "defect", "scratch"),
        "e.png": ("test", "unknown", "unknown"),
    }
    assert (found["c.png"].masks, found["b.png"].ignore) == (("m/1.png", "m/2.png"), ("i.png",))
    boxes = [(box.x1, box.y1, box.x2, box.y2) for box in found["d.png"].masks if isinstance(box, Box)]
    assert boxes == [(1, 2, 5, 6), (7, 8, 9.5, 10)]
    assert (found["a.png"].group, found["a.png"].metadata) == ("p1", (("camera", "left"),))
    ingest(name="table", dataset=tmp_path / "dataset", source=str(tmp_path / "set"))
    sample = next(s for s in Dataset(tmp_path / "dataset").manifest.samples if s.path == "d.png")
    assert (sample.boxes, sample.metadata) == (((1, 2, 5, 6), (7, 8, 10, 10)), (("camera", "left"),))


def test_json_lines(tmp_path: Path) -> None:
    files = photographs("a.png", "b.png") | {"m.png": png((1, 1, 4, 4))}
    lines = [{"path": "a.png", "label": "good", "split": None, "shift": 2}]
    lines += [{"path": "./b.png", "label": "dent", "mask": ["m.png"], "boxes": [[1, 2, 3, 4]]}]
    reading = read(tmp_path, files | {"photographs.jsonl": b"\n".join(map(as_json, lines))})
    found = by_path(reading)
    assert (found["a.png"].split, found["a.png"].metadata) == (None, (("shift", "2"),))
    assert (found["b.png"].mask_files, len(found["b.png"].masks), found["b.png"].defect) == (("m.png",), 2, "dent")


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("/a.png,test,good,,,,,,", "absolute path"),
        ("../a.png,test,good,,,,,,", "leads out of the source"),
        ("none.png,test,good,,,,,,", "has no file 'none.png'"),
        ("a.png,exam,good,,,,,,", "the split is 'exam'"),
        ("a.png,test,1,,,,,,", "the label is 1; write good, defect"),
        ("a.png,train,dent,,,,,,", "a defective photograph stands in the train split"),
        ("a.png,test,good,,m/1.png,,,,", "labelled good has a mask"),
        ("a.png,test,dent,,m/9.png,,,,", "has no file 'm/9.png'"),
        ('a.png,test,dent,,,,"1 2 3",,', "the box '1 2 3' is not x1 y1 x2 y2"),
        ('a.png,test,dent,,,,"1 2 3 nan",,', "holds 'nan' in place of a number"),
        ("a.png,test,good,,,,,,,,,", "another number of cells"),
        ('a.png,test,"good', "is not CSV"),
    ],
)
def test_rows_that_cannot_be(tmp_path: Path, row: str, sentence: str) -> None:
    header = TABLE.split("\n")[0]
    with pytest.raises(BadInput, match=rf"^set\.csv, line [12].*{sentence}"):
        read(tmp_path, table() | {"set.csv": f"{header}\n{row}".encode()})


def idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def mnist() -> dict[str, bytes]:
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    labels = (np.arange(12) % 4).astype(np.uint8)
    return {
        "train-images-idx3-ubyte.gz": gzip.compress(idx(images)),
        "train-labels-idx1-ubyte.gz": gzip.compress(idx(labels)),
        "t10k-images-idx3-ubyte": idx(images[::-1]),
        "t10k-labels-idx1-ubyte": idx(labels[::-1].copy()),
    }


def test_idx_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"Which class is good\? Set data\.good_class to a digit"):
        read(tmp_path, mnist())
    reading = read(tmp_path, mnist(), good_class="3")
    assert reading.layout == "one-class"
    splits = [(p.split, p.label, p.defect) for p in reading.photographs]
    assert splits.count(("train", "good", "good")) == 3
    assert splits.count(("test", "good", "good")) == 3
    assert splits.count(("test", "defect", "class 0")) == 3
    assert len(splits) == 15
    first = by_path(reading)["train/03.png"]
    assert first.content is not None
    with Image.open(io.BytesIO(first.content())) as image:
        expected = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)[3]
        assert np.array_equal(np.asarray(image), expected)
    assert len(read(tmp_path, mnist(), good_class="3", most=2).photographs) == 2 * 5


@pytest.mark.parametrize(
    "spoil",
    [lambda c: c[:-3], lambda c: c + b"x", lambda c: b"\0\0\x09\x03" + c[4:], lambda c: c[:9], lambda c: b""],
)
def test_damaged_idx_files(tmp_path: Path, spoil: object) -> None:
    files = mnist()
    files["t10k-images-idx3-ubyte"] = spoil(files["t10k-images-idx3-ubyte"])  # type: ignore[operator]
    with pytest.raises(BadInput, match=r"^t10k-images-idx3-ubyte "):
        read(tmp_path, files, good_class="3")
    files["train-images-idx3-ubyte.gz"] = b"\x1f\x8b damaged"
    with pytest.raises(BadInput, match=r"^t.*-images-idx3-ubyte(.gz)? "):
        read(tmp_path, files, good_class="3")


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    files = photographs(*(f"set/training/{c}/{n}.png" for c in ("cat", "7") for n in range(2)), "set/test/7/9.png")
    files |= photographs("set/test/cat/8.png", "set/loose.png")
    reading = read(tmp_path, files, good_class="Cat")
    assert reading.layout == "one-class"
    assert rows(reading) == {
        "training/cat/0.png": ("train", *GOOD),
        "training/cat/1.png": ("train", *GOOD),
        "test/7/9.png": ("test", "defect", "class 7", ()),
        "test/cat/8.png": ("test", *GOOD),
    }
    with pytest.raises(BadInput, match=r"data\.good_class is 'dog', and the source has the classes 7, cat"):
        read(tmp_path, files, good_class="dog")


def test_patterns(tmp_path: Path) -> None:
    files = photographs("2024-05-01/l1_pass/1.png", "2024-05-01/l1_dent/2.png", "2024-05-02/l1_hold/3.png")
    with pytest.raises(
        BadInput, match=r"Which photographs are good\? Say so by a pattern of their paths, such as data"
    ):
        read(tmp_path, files)
    reading = read(tmp_path, files, good="_PASS/", defect="l1_(dent|crack)/")
    assert (reading.layout, rows(reading)) == (
        "patterns",
        {
            "2024-05-01/l1_pass/1.png": (None, *GOOD),
            "2024-05-01/l1_dent/2.png": ("test", "defect", "dent", ()),
            "2024-05-02/l1_hold/3.png": ("test", "unknown", "unknown", ()),
        },
    )
    reading = read(tmp_path, files, good="_pass/")
    assert [p.defect for p in reading.photographs] == ["l1_dent", "good", "l1_hold"]
    with pytest.raises(BadInput, match=r"l1_dent/2\.png matches both data\.good and data\.defect"):
        read(tmp_path, files, good="l1_", defect="dent")


def test_patterns_settle_what_another_layout_leaves_unknown(tmp_path: Path) -> None:
    files = photographs("train/good/0.png", "test/good/1.png", "test/unknown/ok_2.png", "test/unknown/3.png")
    labels = {path: p.label for path, p in by_path(read(tmp_path, files, "mvtec", good="/ok_", defect="xyz")).items()}
    assert (labels["test/unknown/ok_2.png"], labels["test/unknown/3.png"]) == ("good", "unknown")
