"""What each layout makes of names alone."""

from __future__ import annotations

import pytest

from vqi.dataset.layouts.detection import read_layout
from vqi.dataset.layouts.listing import Photograph, Reading
from vqi.platform.errors import BadInput


def by_path(reading: Reading) -> dict[str, Photograph]:
    return {photograph.path: photograph for photograph in reading.photographs}


def test_mvtec_gives_splits_labels_defects_and_masks() -> None:
    names = ["train/good/0.png", "train/good/line 2/0.png", "test/good/0.png", "test/cut/deep/1.JPG", "ground_truth/cut/deep/1_mask.png"]
    found = by_path(read_layout([*names, "test/unknown/9.png", "test/loose.png", "val/good/5.png"], "auto", "_mask"))
    assert found["train/good/line 2/0.png"] == Photograph("train/good/line 2/0.png", "train", "good", "good")
    assert found["test/good/0.png"] == Photograph("test/good/0.png", "test", "good", "good")
    assert found["test/cut/deep/1.JPG"] == Photograph("test/cut/deep/1.JPG", "test", "defect", "cut/deep", ("ground_truth/cut/deep/1_mask.png",))
    assert found["test/unknown/9.png"].label == found["test/loose.png"].label == "unknown"
    assert found["val/good/5.png"].split == "validation"
    assert len(found) == 7


@pytest.mark.parametrize(
    ("suffix", "mask"),
    [
        ("_mask", "ground_truth/cut/1_mask.bmp"),
        ("_mask", "ground_truth/cut/1.png"),
        ("-gt", "ground_truth/cut/1-gt.png"),
        ("", "ground_truth/cut/1.png"),
    ],
)
def test_a_mask_has_the_suffix_or_the_name_of_its_photograph(suffix: str, mask: str) -> None:
    for layout, names in (("mvtec", ["train/good/0.png", "test/cut/1.jpg"]), ("folders", ["good/0.png", "cut/1.jpg"])):
        found = by_path(read_layout([*names, mask], layout, suffix))
        assert found[names[1]].masks == (mask,)
        assert not found[names[0]].masks
        assert mask not in found


def test_the_suffix_wins_over_the_bare_name_and_png_over_other_formats() -> None:
    masks = ["ground_truth/cut/1.png", "ground_truth/cut/1_mask.bmp", "ground_truth/cut/1_mask.png"]
    reading = read_layout(["train/good/0.png", "test/cut/1.jpg", *masks], "auto", "_mask")
    assert by_path(reading)["test/cut/1.jpg"].masks == ("ground_truth/cut/1_mask.png",)
    assert any(note.startswith("2 masks left out") for note in reading.notes)


def test_one_mask_never_serves_test_and_validation() -> None:
    names = ["train/good/0.png", "test/cut/1.png", "val/cut/1.png", "ground_truth/cut/1_mask.png"]
    found = by_path(read_layout(names, "auto", "_mask"))
    assert found["test/cut/1.png"].masks == ("ground_truth/cut/1_mask.png",)
    assert not found["val/cut/1.png"].masks
    found = by_path(read_layout([*names, "ground_truth/val/cut/1_mask.png"], "auto", "_mask"))
    assert found["val/cut/1.png"].masks == ("ground_truth/val/cut/1_mask.png",)


def test_what_is_left_out_is_told() -> None:
    names = ["train/good/0.png", "train/cut/0.png", "other/1.png", "top.png", "readme.txt", "train/good/.x.png", "__MACOSX/train/good/0.png"]
    reading = read_layout([*names, "ground_truth/cut/7_mask.png"], "auto", "_mask")
    assert [photograph.path for photograph in reading.photographs] == ["train/good/0.png"]
    notes = "\n".join(reading.notes)
    assert "1 photograph in train/ outside train/good left out" in notes
    assert "2 image files outside train/, test/, validation/ and ground_truth/ left out (other, the top folder)" in notes
    assert "1 mask left out: no defect photograph of that name (ground_truth/cut/7_mask.png)" in notes
    assert "2 hidden files left out" in notes
    assert "1 file left out: no image by name" in notes


def test_a_set_further_down_is_the_same_set() -> None:
    names = ["train/good/0.png", "test/cut/1.png", "ground_truth/cut/1_mask.png"]
    flat, nested = read_layout(names, "auto", "_mask"), read_layout([f"download/cookie/{name}" for name in names], "auto", "_mask")
    assert nested.photographs == flat.photographs
    assert nested.top == "download/cookie/"


@pytest.mark.parametrize("normal", ["good", "Normal", "OK", "normals"])
def test_plain_folders(normal: str) -> None:
    names = [f"{normal}/a/0.png", f"{normal}/1.png", "scratch/deep/2.png", "unknown/3.png", "stain/4.png", "stain/4_mask.png"]
    found = by_path(read_layout(names, "auto", "_mask"))
    assert found[f"{normal}/a/0.png"] == Photograph(f"{normal}/a/0.png", None, "good", "good")
    assert found["scratch/deep/2.png"] == Photograph("scratch/deep/2.png", "test", "defect", "scratch/deep")
    assert found["unknown/3.png"].label == "unknown"
    assert found["stain/4.png"].masks == ("stain/4_mask.png",)
    assert len(found) == 5


@pytest.mark.parametrize("mask", ["ground_truth/scratch/2_mask.png", "scratch/masks/2.png", "masks/2.png", "masks/2_mask.png", "scratch/2_mask.png"])
def test_plain_folders_find_masks_where_people_put_them(mask: str) -> None:
    found = by_path(read_layout(["good/0.png", "scratch/2.png", mask], "folders", "_mask"))
    assert found["scratch/2.png"].masks == (mask,)
    assert set(found) == {"good/0.png", "scratch/2.png"}


def test_a_mask_that_could_be_of_two_photographs_is_of_neither() -> None:
    reading = read_layout(["good/0.png", "scratch/2.png", "stain/2.png", "masks/2.png"], "folders", "_mask")
    assert {photograph.masks for photograph in reading.photographs} == {()}
    assert any("1 mask left out" in note for note in reading.notes)


def test_a_lone_mask_is_never_trained_on() -> None:
    reading = read_layout(["good/0.png", "good/1_mask.png"], "folders", "_mask")
    assert [photograph.path for photograph in reading.photographs] == ["good/0.png"]


def test_nothing_but_photographs_are_normals_and_said_so() -> None:
    reading = read_layout(["0.png", "1.png"], "auto", "_mask")
    assert {photograph.label for photograph in reading.photographs} == {"good"}
    assert "all 2 photographs are taken as normal" in " ".join(reading.notes)


@pytest.mark.parametrize(
    ("names", "layout", "sentence"),
    [
        ([], "auto", "holds no images"),
        (["a.txt", ".b.png"], "auto", r"holds no images \(2 other files\)"),
        (["good/0.png"], "mvtecc", "Did you mean 'mvtec'"),
        (["good/0.png"], "mvtec", "no photographs in train/good"),
        (["test/cut/0.png", "train/cut/1.png"], "mvtec", "it has test, train"),
        (["scratch/0.png", "dent/0.png"], "folders", "no folder of normal photographs"),
        (["scratch/0.png", "dent/0.png"], "auto", "neither train/good .* its folders are dent, scratch"),
        (["scratch/0.png"], "auto", "neither train/good .* all lie in scratch/"),
        (["a/train/good/0.png", "b/train/good/0.png"], "auto", r"holds several sets \(a, b\)"),
    ],
)
def test_what_does_not_fit_is_explained(names: list[str], layout: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read_layout(names, layout, "_mask")


def test_a_suffix_is_no_path() -> None:
    with pytest.raises(BadInput, match="mask_suffix"):
        read_layout(["good/0.png"], "auto", "../x")
