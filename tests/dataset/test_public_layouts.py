"""Public data sets in the shapes that they are published in, rebuilt small."""

from __future__ import annotations

from pathlib import Path

import pytest
from layout_sets import as_json, by_path, photographs, png, read, rows

from photograph_folders import write_files
from step_calls import ingest
from vqi.dataset.layouts.interface import Saturation
from vqi.dataset.reader import Dataset
from vqi.platform.errors import BadInput

GOOD = ("good", "good", ())


def test_mvtec_ad_2(tmp_path: Path) -> None:
    names = [f"train/good/{n:03d}_regular.png" for n in range(3)] + ["validation/good/000_regular.png"]
    names += ["test_public/good/000_regular.png", "test_public/good/000_overexposed.png"]
    names += ["test_public/bad/000_regular.png", "test_private/000_regular.png", "test_private_mixed/001_shift_1.png"]
    mask = "test_public/ground_truth/bad/000_regular_mask.png"
    reading = read(tmp_path, photographs(*names) | {mask: png((2, 2, 5, 5))})
    assert reading.layout == "mvtec-ad-2"
    assert rows(reading) == {
        **dict.fromkeys(names[:3], ("train", *GOOD)),
        names[3]: ("validation", *GOOD),
        names[4]: ("test", *GOOD),
        names[5]: ("test", *GOOD),
        names[6]: ("test", "defect", "bad", (mask,)),
        names[7]: ("test", "unknown", "unknown", ()),
        names[8]: ("test", "unknown", "unknown", ()),
    }
    groups = {path: photograph.group for path, photograph in by_path(reading).items()}
    assert groups[names[4]] == groups[names[5]] != groups[names[6]]


LOCO = [
    {"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 9, "relative_saturation": False},
    {"defect_name": "scratch", "pixel_value": 250, "saturation_threshold": 0.5, "relative_saturation": True},
]


def loco() -> dict[str, bytes]:
    names = [f"train/good/{n:03d}.png" for n in range(4)] + ["validation/good/000.png", "test/good/000.png"]
    names += ["test/logical_anomalies/000.png", "test/structural_anomalies/000.png"]
    return photographs(*names) | {
        "ground_truth/logical_anomalies/000/000.png": png((2, 2, 8, 8)),
        "ground_truth/logical_anomalies/000/001.png": png((6, 6, 12, 12)),
        "ground_truth/structural_anomalies/000/000.png": png((20, 20, 24, 30), value=250),
        "defects_config.json": as_json(LOCO),
    }


def test_mvtec_loco(tmp_path: Path) -> None:
    reading = read(tmp_path, loco())
    assert (reading.layout, reading.saturation) == (
        "mvtec-loco",
        (Saturation("missing", 255, 9, False), Saturation("scratch", 250, 0.5, True)),
    )
    photograph = by_path(reading)["test/logical_anomalies/000.png"]
    assert photograph.mask_files == tuple(f"ground_truth/logical_anomalies/000/00{n}.png" for n in (0, 1))
    ingest(name="loco", dataset=tmp_path / "dataset", source=str(tmp_path / "set"))
    dataset = Dataset(tmp_path / "dataset")
    assert dataset.manifest.saturation == reading.saturation
    regions = {s.path: dataset.saturated_regions(s) for s in dataset.samples("test") if s.masks}
    shares = {path: [(int(mask.sum()), share) for mask, share in found] for path, found in regions.items()}
    assert shares == {
        "test/logical_anomalies/000.png": [(36, 9 / 36), (36, 9 / 36)],
        "test/structural_anomalies/000.png": [(40, 0.5)],
    }


@pytest.mark.parametrize(
    "config",
    [
        b"{",
        b"7",
        b"[7]",
        as_json([{"defect_name": "x"}]),
        as_json([LOCO[0] | {"saturation_threshold": 0}]),
        as_json([LOCO[0] | {"relative_saturation": "no"}]),
        as_json([LOCO[0], LOCO[0]]),
    ],
)
def test_a_damaged_defects_config(tmp_path: Path, config: bytes) -> None:
    with pytest.raises(BadInput, match=r"^defects_config\.json "):
        read(tmp_path, loco() | {"defects_config.json": config})


@pytest.mark.parametrize("with_splits", [True, False])
def test_visa(tmp_path: Path, with_splits: bool) -> None:
    normal = [f"Data/Images/Normal/{n:04d}.JPG" for n in range(4)]
    files = photographs(*normal, "Data/Images/Anomaly/000.JPG")
    files |= {"Data/Masks/Anomaly/000.png": png((3, 3, 6, 6), value=2)}
    table = ["image,label,mask", *(f"candle/{name},normal," for name in normal)]
    table.append('candle/Data/Images/Anomaly/000.JPG,"melted,bent",candle/Data/Masks/Anomaly/000.png')
    files["image_anno.csv"] = "\n".join(table).encode()
    if with_splits:
        rows_of = [f"candle,{'test' if n == 3 else 'train'},normal,candle/{name}," for n, name in enumerate(normal)]
        rows_of += ["candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,x", "pcb1,train,normal,pcb1/Data/1.JPG,"]
        files["split_csv/1cls.csv"] = "\n".join(["object,split,label,image,mask", *rows_of]).encode()
    reading = read(tmp_path, files)
    assert reading.layout == "visa"
    found = rows(reading)
    assert found["Data/Images/Anomaly/000.JPG"] == ("test", "defect", "bent+melted", ("Data/Masks/Anomaly/000.png",))
    expected = ["train", "train", "train", "test"] if with_splits else [None] * 4
    assert [found[name][0] for name in normal] == expected


@pytest.mark.parametrize("name", ["/etc/passwd", "candle/../../x.JPG", "Data/Images/Normal/9.JPG", ""])
def test_visa_names_stay_in_the_source(tmp_path: Path, name: str) -> None:
    files = photographs("Data/Images/Normal/0.JPG", "x.JPG")
    files["image_anno.csv"] = f"image,label,mask\n{name},normal,\n".encode()
    with pytest.raises(BadInput, match=r"^image_anno\.csv, line 2: image_anno\.csv names "):
        read(tmp_path, files)


def test_btad_and_mpdd_are_read_as_mvtec(tmp_path: Path) -> None:
    files = photographs("train/ok/0000.bmp", "test/ok/0001.bmp", "test/ko/0002.bmp")
    reading = read(tmp_path / "btad", files | {"ground_truth/ko/0002.png": png((2, 2, 5, 5))})
    assert reading.layout == "mvtec"
    assert rows(reading)["test/ko/0002.bmp"] == ("test", "defect", "ko", ("ground_truth/ko/0002.png",))
    files = photographs("train/good/000.png", "test/good/000.png", "test/hole/000.png")
    reading = read(tmp_path / "mpdd", files | {"ground_truth/hole/000_mask.png": png((2, 2, 5, 5))})
    assert rows(reading)["test/hole/000.png"] == ("test", "defect", "hole", ("ground_truth/hole/000_mask.png",))


def test_kolektor_sdd(tmp_path: Path) -> None:
    files = photographs(*(f"kos0{part}/Part{n}.jpg" for part in (1, 2) for n in range(2)))
    files |= {f"kos0{part}/Part{n}_label.bmp": png() for part in (1, 2) for n in range(2)}
    files["kos02/Part1_label.bmp"] = png((1, 1, 9, 3))
    reading = read(tmp_path, files)
    assert reading.layout == "kolektor"
    assert rows(reading) == {
        "kos01/Part0.jpg": (None, *GOOD),
        "kos01/Part1.jpg": (None, *GOOD),
        "kos02/Part0.jpg": (None, *GOOD),
        "kos02/Part1.jpg": ("test", "defect", "defect", ("kos02/Part1_label.bmp",)),
    }
    assert {photograph.group for photograph in reading.photographs} == {"kos01", "kos02"}


def test_kolektor_sdd2(tmp_path: Path) -> None:
    files = photographs("train/1.png", "train/2.png", "test/3.png", "test/4.png")
    files |= {f"{name}_GT.png": png() for name in ("train/1", "test/3")}
    files |= {f"{name}_GT.png": png((4, 4, 9, 9)) for name in ("train/2", "test/4")}
    reading = read(tmp_path, files)
    assert rows(reading) == {
        "train/1.png": ("train", *GOOD),
        "train/2.png": ("test", "defect", "defect", ("train/2_GT.png",)),
        "test/3.png": ("test", *GOOD),
        "test/4.png": ("test", "defect", "defect", ("test/4_GT.png",)),
    }
    assert any("1 defective photograph of the train split is tested on" in note for note in reading.notes)
    with pytest.raises(BadInput, match=r"test/3_GT\.png"):
        read(tmp_path, files | {"test/3_GT.png": b"\x89PNG\r\n\x1a\n"})


def test_mvtec_3d(tmp_path: Path) -> None:
    names = ["train/good/rgb/000.png", "train/good/xyz/000.tiff", "validation/good/rgb/000.png"]
    names += ["test/good/rgb/000.png", "test/good/xyz/000.tiff", "test/hole/rgb/000.png", "test/hole/xyz/000.tiff"]
    files = photographs(*names) | {"test/hole/gt/000.png": png((2, 2, 6, 6)), "test/good/gt/000.png": png()}
    reading = read(tmp_path, files)
    assert reading.layout == "mvtec-3d"
    assert rows(reading) == {
        names[0]: ("train", *GOOD),
        names[2]: ("validation", *GOOD),
        names[3]: ("test", *GOOD),
        names[5]: ("test", "defect", "hole", ("test/hole/gt/000.png",)),
    }
    assert reading.notes[-1].startswith("3 image files outside of rgb/")


def test_they_are_found_below_a_top_folder(tmp_path: Path) -> None:
    """As in an archive that keeps the folder of the product."""
    files = {f"bread/{name}": content for name, content in loco().items()}
    assert (read(tmp_path, files).layout, read(tmp_path, files).top) == ("mvtec-loco", "bread/")
    assert write_files(tmp_path / "set", {}).is_dir()
