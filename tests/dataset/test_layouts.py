"""What each layout makes of names alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from vqi.dataset.layouts import detection
from vqi.dataset.layouts.interface import Options, Photograph, Reading, SourceFiles
from vqi.platform.errors import BadInput


def read_layout(
    names: Iterable[str], layout: str, mask_suffix: str, source_name: str = "", source_notes: Sequence[str] = ()
) -> Reading:
    """What is read of names alone: every file is empty."""
    files = dict.fromkeys(names, Path(os.devnull))
    return detection.read_layout(SourceFiles(files, source_name), layout, Options(mask_suffix), source_notes)


def by_path(reading: Reading) -> dict[str, Photograph]:
    return {photograph.path: photograph for photograph in reading.photographs}


def test_mvtec_gives_splits_labels_defects_and_masks() -> None:
    names = [
        "train/good/0.png",
        "train/good/line 2/0.png",
        "test/good/0.png",
        "test/cut/deep/1.JPG",
        "ground_truth/cut/deep/1_mask.png",
    ]
    photographs = by_path(
        read_layout([*names, "test/unknown/9.png", "test/loose.png", "val/good/5.png"], "auto", "_mask")
    )
    assert photographs["train/good/line 2/0.png"] == Photograph("train/good/line 2/0.png", "train", "good", "good")
    assert photographs["test/good/0.png"] == Photograph("test/good/0.png", "test", "good", "good")
    assert photographs["test/cut/deep/1.JPG"] == Photograph(
        "test/cut/deep/1.JPG", "test", "defect", "cut/deep", ("ground_truth/cut/deep/1_mask.png",)
    )
    assert photographs["test/unknown/9.png"].label == photographs["test/loose.png"].label == "unknown"
    assert photographs["val/good/5.png"].split == "validation"
    assert len(photographs) == 7


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
        photographs = by_path(read_layout([*names, mask], layout, suffix))
        assert photographs[names[1]].masks == (mask,)
        assert not photographs[names[0]].masks
        assert mask not in photographs


def test_the_suffix_wins_over_the_bare_name_and_png_over_other_formats() -> None:
    masks = ["ground_truth/cut/1.png", "ground_truth/cut/1_mask.bmp", "ground_truth/cut/1_mask.png"]
    reading = read_layout(["train/good/0.png", "test/cut/1.jpg", *masks], "auto", "_mask")
    assert by_path(reading)["test/cut/1.jpg"].masks == ("ground_truth/cut/1_mask.png",)
    assert any(note.startswith("2 masks left out") for note in reading.notes)


def test_one_mask_never_serves_test_and_validation() -> None:
    names = ["train/good/0.png", "test/cut/1.png", "val/cut/1.png", "ground_truth/cut/1_mask.png"]
    photographs = by_path(read_layout(names, "auto", "_mask"))
    assert photographs["test/cut/1.png"].masks == ("ground_truth/cut/1_mask.png",)
    assert not photographs["val/cut/1.png"].masks
    photographs = by_path(read_layout([*names, "ground_truth/val/cut/1_mask.png"], "auto", "_mask"))
    assert photographs["val/cut/1.png"].masks == ("ground_truth/val/cut/1_mask.png",)


@pytest.mark.parametrize(
    ("photographs", "masks", "expected"),
    [
        (["000"], ["000_mask", "000_mask_1", "000_mask2", "000_mask (3)", "000_MASK-4"], {"000": 5}),
        (["000"], ["000", "000_1", "000-2"], {"000": 3}),
        (["000"], ["000_1_mask", "000_scratch_mask", "000_mask_scratch"], {"000": 3}),
        (["000"], ["000_gt", "gt_000", "000-label_2"], {"000": 3}),
        (["000", "001"], ["000/000", "000/001", "001/a_mask", "001_mask/b"], {"000": 2, "001": 2}),
        # The photographs are numbered themselves: a number in a mask's name may be theirs.
        (["1", "1_1", "10"], ["1_mask", "1_1_mask", "10_mask", "1_1_mask_2", "1_2_mask"], {"1": 1, "1_1": 2, "10": 1}),
        (["1", "1_1"], ["1_1", "1_1_1"], {"1_1": 1}),
        (["1", "10"], ["10", "10_mask", "100_mask"], {"10": 1}),
        (["IMG_1"], ["img_1_mask"], {"IMG_1": 1}),
        (["a", "A"], ["a_mask", "A_mask"], {"a": 1, "A": 1}),
        (["a.b", "a"], ["a.b_mask", "a_mask"], {"a.b": 1, "a": 1}),
    ],
)
@pytest.mark.parametrize(
    ("normal", "defect", "ground_truth"),
    [
        ("train/good/n.png", "test/cut", "ground_truth/cut"),
        ("train/good/n.png", "test/cut", "test/cut/masks"),
        ("train/good/n.png", "test/cut/images", "test/cut/gt"),
        ("train/good/n.png", "test/cut", "test/labels/cut"),
        ("train/good/n.png", "test/cut", "Ground Truth/test/cut"),
        ("Train/Good/n.png", "TEST/cut", "Annotations/Cut"),
        ("train/good/n.png", "val/cut", "segmentation/validation/cut"),
        ("good/n.png", "cut/deep", "masks/cut/deep"),
        ("good/n.png", "cut", "cut/annotation"),
    ],
)
def test_masks_of_one_photograph_are_all_its_own(
    normal: str, defect: str, ground_truth: str, photographs: list[str], masks: list[str], expected: dict[str, int]
) -> None:
    names = [
        normal,
        *(f"{defect}/{name}.jpg" for name in photographs),
        *(f"{ground_truth}/{name}.png" for name in masks),
    ]
    read = by_path(read_layout(names, "auto", "_mask"))
    assert set(read) == {normal, *(f"{defect}/{name}.jpg" for name in photographs)}
    assert {name: len(read[f"{defect}/{name}.jpg"].masks) for name in photographs} == {
        name: expected.get(name, 0) for name in photographs
    }
    if list(expected) == ["000"]:
        assert read[f"{defect}/000.jpg"].masks == tuple(sorted(f"{ground_truth}/{name}.png" for name in masks))


@pytest.mark.parametrize("mask", ["0_mask", "0_mask_1", "0_gt", "0-label", "mask_0", "0_mask2"])
@pytest.mark.parametrize("layout", ["mvtec", "folders"])
def test_a_mask_beside_its_photograph_is_not_a_photograph(layout: str, mask: str) -> None:
    good, cut = ("train/good", "test/cut") if layout == "mvtec" else ("good", "cut")
    reading = read_layout([f"{good}/0.png", f"{good}/{mask}.png", f"{cut}/0.png", f"{cut}/{mask}.png"], "auto", "_mask")
    assert by_path(reading).keys() == {f"{good}/0.png", f"{cut}/0.png"}
    assert by_path(reading)[f"{cut}/0.png"].masks == (f"{cut}/{mask}.png",)
    assert f"1 mask left out: of photographs in no defect's folder ({good}/{mask}.png)." in reading.notes


@pytest.mark.parametrize(
    "masks",
    [
        ["test/cut/1_mask/0.png", "test/cut/1_mask/1.png"],
        ["test/cut_masks/1.png"],
        ["ground_truth_cut/1.png"],
        ["test/mask-cut/1.png"],
        ["gt/test/cut gt/1/0.png"],
    ],
)
def test_mask_folders_that_are_called_after_what_lies_beside_them(masks: list[str]) -> None:
    photographs = ["train/good/0.png", "test/cut/1.png"]
    names = [
        name if masks[0].startswith(("test", "gt")) else name.replace("test/", "").replace("train/", "")
        for name in photographs
    ]
    photographs = by_path(read_layout([*names, *masks], "auto", "_mask"))
    assert set(photographs) == set(names)
    assert photographs[names[1]].masks == tuple(masks)


def test_what_is_drawn_over_a_photograph_is_not_its_mask() -> None:
    masks = ["ground_truth/cut/1.png", "ground_truth/cut/1_overlay.png"]
    reading = read_layout(["train/good/0.png", "test/cut/1.png", *masks], "auto", "_mask")
    assert by_path(reading)["test/cut/1.png"].masks == (masks[0],)
    assert "1 mask left out: no defect photograph of that name (ground_truth/cut/1_overlay.png)." in reading.notes


def test_several_masks_are_reported() -> None:
    masks = ["ground_truth/cut/1_mask.png", "ground_truth/cut/1_mask_1.png"]
    reading = read_layout(["train/good/0.png", "test/cut/1.png", *masks], "auto", "_mask")
    assert reading.notes[0].startswith(
        "1 photograph with several masks: what any of them marks is defect (test/cut/1.png: "
    )


@pytest.mark.parametrize("folder", ["wrong_label", "label_missing", "solder_mask", "segment", "masking"])
def test_a_defect_that_is_called_after_labels_or_masks_is_a_defect(folder: str) -> None:
    names = ["train/good/0.png", f"test/{folder}/1.png", "test/wrong/1.png", "test/solder/2.png"]
    photographs = by_path(read_layout(names if folder != "solder_mask" else names[:3], "auto", "_mask"))
    assert photographs[f"test/{folder}/1.png"].defect == folder


def test_a_product_called_label_is_read() -> None:
    assert read_layout(["label/train/good/0.png", "label/test/cut/0.png"], "auto", "_mask").top == "label/"
    with pytest.raises(BadInput, match="is not recognised"):
        read_layout(["masks/0.png", "masks/1.png"], "auto", "_mask")


def test_a_folder_called_images_is_neither_good_nor_a_defect() -> None:
    photographs = by_path(
        read_layout(
            ["train/good/images/0.png", "test/images/good/1.png", "test/images/2.png", "test/cut/images/3.png"],
            "auto",
            "_mask",
        )
    )
    assert [photographs[path].defect for path in sorted(photographs)] == ["cut", "unknown", "good", "good"]


@pytest.mark.parametrize("folder", ["gut", "i.O.", "OK ", "no_defect", "good parts"])
def test_other_names_of_good(folder: str) -> None:
    photographs = by_path(
        read_layout([f"train/{folder}/0.png", f"test/{folder}/1.png", "test/n.i.O./2.png"], "auto", "_mask")
    )
    assert sorted((photograph.split, photograph.label) for photograph in photographs.values()) == [
        ("test", "defect"),
        ("test", "good"),
        ("train", "good"),
    ]


def test_what_is_left_out_is_reported() -> None:
    names = [
        "train/good/0.png",
        "train/cut/0.png",
        "other/1.png",
        "top.png",
        "readme.txt",
        "train/good/.x.png",
        "__MACOSX/train/good/0.png",
    ]
    reading = read_layout([*names, "ground_truth/cut/7_mask.png"], "auto", "_mask")
    assert [photograph.path for photograph in reading.photographs] == ["train/good/0.png"]
    notes = "\n".join(reading.notes)
    assert "1 photograph in train/ outside train/good left out" in notes
    assert (
        "2 image files outside train/, test/, validation/ and ground_truth/ left out (other, the top folder)" in notes
    )
    assert "1 mask left out: no defect photograph of that name (ground_truth/cut/7_mask.png)" in notes
    assert "2 hidden files left out" in notes
    assert "1 file left out: no image by name" in notes


def test_a_set_further_down_is_the_same_set() -> None:
    names = ["train/good/0.png", "test/cut/1.png", "ground_truth/cut/1_mask.png"]
    flat, nested = (
        read_layout(names, "auto", "_mask"),
        read_layout([f"download/cookie/{name}" for name in names], "auto", "_mask"),
    )
    assert nested.photographs == flat.photographs
    assert nested.top == "download/cookie/"


@pytest.mark.parametrize("normal", ["good", "Normal", "OK", "normals"])
def test_plain_folders(normal: str) -> None:
    names = [
        f"{normal}/a/0.png",
        f"{normal}/1.png",
        "scratch/deep/2.png",
        "unknown/3.png",
        "stain/4.png",
        "stain/4_mask.png",
    ]
    photographs = by_path(read_layout(names, "auto", "_mask"))
    assert photographs[f"{normal}/a/0.png"] == Photograph(f"{normal}/a/0.png", None, "good", "good")
    assert photographs["scratch/deep/2.png"] == Photograph("scratch/deep/2.png", "test", "defect", "scratch/deep")
    assert photographs["unknown/3.png"].label == "unknown"
    assert photographs["stain/4.png"].masks == ("stain/4_mask.png",)
    assert len(photographs) == 5


@pytest.mark.parametrize(
    "mask",
    ["ground_truth/scratch/2_mask.png", "scratch/masks/2.png", "masks/2.png", "masks/2_mask.png", "scratch/2_mask.png"],
)
def test_plain_folders_find_masks_where_people_put_them(mask: str) -> None:
    photographs = by_path(read_layout(["good/0.png", "scratch/2.png", mask], "folders", "_mask"))
    assert photographs["scratch/2.png"].masks == (mask,)
    assert set(photographs) == {"good/0.png", "scratch/2.png"}


def test_a_mask_that_could_be_of_two_photographs_is_of_neither() -> None:
    reading = read_layout(["good/0.png", "scratch/2.png", "stain/2.png", "masks/2.png"], "folders", "_mask")
    assert {photograph.masks for photograph in reading.photographs} == {()}
    assert any("1 mask left out" in note for note in reading.notes)


def test_a_lone_mask_is_never_trained_on() -> None:
    reading = read_layout(["good/0.png", "good/1_mask.png"], "folders", "_mask")
    assert [photograph.path for photograph in reading.photographs] == ["good/0.png"]


def test_photographs_without_folders_are_normals_and_a_note_reports_it() -> None:
    reading = read_layout(["0.png", "1.png"], "auto", "_mask")
    assert {photograph.label for photograph in reading.photographs} == {"good"}
    assert "all 2 photographs are taken as good parts" in " ".join(reading.notes)


NEUTRAL = [f"{index:03d}.png" for index in range(4)]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["OK_0.png", "NG_1.png"], r"1 of 2 names speak of a defect \(NG_1.png\)"),
        (["ok1.PNG", "nok2.PNG"], r"nok2"),
        (["part-bad-1.png", "part-2.png"], "part-bad-1"),
        (["badPart1.png", "goodPart2.png"], "badPart1"),
        (["1_n.i.O..png", "2_i.O..png"], "1_n.i.O"),
        (["schlecht 1.png", "gut 1.png"], "schlecht 1"),
        (["défaut_1.png", "2.png"], "défaut_1"),
        (["not_ok_1.png", "ok_1.png"], "not_ok_1"),
        (["n-ok_1.png", "ok_1.png"], "n-ok_1"),
        (["N.G._1.png", "ok_1.png"], "N.G._1"),
        (["不良品_1.png", "良品_1.png"], "不良品_1"),
        (["Fail01.png", "Pass01.png"], "Fail01"),
        (["OK_0.png", "X_1.png"], r"1 of 2 names speak of a good part \(OK_0.png\) and the others do not \(X_1.png\)"),
        ([*NEUTRAL, "001.json"], r"may say which are defective \(001.json\)"),
        ([*NEUTRAL, "001.png.xml"], "may say which are defective"),
        ([*NEUTRAL, "labels.csv"], "may say which are defective"),
        ([*NEUTRAL, "annotations/001.txt"], "may say which are defective"),
        ([*NEUTRAL, "001_mask.png"], r"there is a mask \(001_mask.png\)"),
        ([*NEUTRAL, "001_gt.png"], "there is a mask"),
        ([*NEUTRAL, "001.jpg"], r"1 name come twice"),
        (["train\\good\\0.png", "test\\cut\\0.png"], "hold backslashes"),
    ],
)
@pytest.mark.parametrize("layout", ["auto", "folders"])
def test_a_set_without_folders_is_not_normal_where_something_speaks_against_it(
    names: list[str], sentence: str, layout: str
) -> None:
    with pytest.raises(BadInput, match=f"Are all .* of the source good parts\\?.*{sentence}.*put all into good"):
        read_layout(names, layout, "_mask")


@pytest.mark.parametrize(
    "names",
    [
        [*NEUTRAL, "readme.txt", "SHA256SUMS", "camera.json"],
        ["OK_0.png", "OK_1.png"],
        ["no_defect_1.png", "scratch-free_2.png"],
        ["bang_1.png", "baddeley_2.png", "longing.png"],
        ["cam1_0.png", "cam2_0.png", "a_b.png"],
    ],
)
def test_a_set_without_folders_is_normal_where_nothing_speaks_against_it(names: list[str]) -> None:
    reading = read_layout(names, "auto", "_mask", "ring")
    photographs = [name for name in names if name.endswith(".png")]
    assert {photograph.path: photograph.label for photograph in reading.photographs} == dict.fromkeys(
        photographs, "good"
    )
    assert reading.notes[0].startswith(
        f"The source has no folders: all {len(photographs)} photographs are taken as good parts."
    )


def test_what_the_source_is_called_counts() -> None:
    for name in ("scratch", "NG 2"):
        with pytest.raises(BadInput, match=f"the source is called {name}"):
            read_layout(NEUTRAL, "auto", "_mask", name)
    assert len(read_layout(NEUTRAL, "auto", "_mask", "anomaly_detection").photographs) == 4
    assert len(read_layout(["good/0.png"], "auto", "_mask", "scratch study").photographs) == 1


def test_how_names_begin_is_reported() -> None:
    names = [f"{kind}_{index}.png" for kind in ("burr", "chip") for index in range(3)]
    assert read_layout(names, "auto", "_mask").notes[0].endswith("Their names begin with burr (3) and chip (3).")


@pytest.mark.parametrize("folder", ["good", "train/good", "Train/OK/line 2"])
def test_names_in_a_folder_of_good_parts_that_speak_of_both_are_refused(folder: str) -> None:
    names = [f"{folder}/OK_{index}.png" for index in range(3)] + [f"{folder}/NG_0.png"]
    with pytest.raises(
        BadInput,
        match=rf"1 of 4 photographs in folders of good parts have names .* \({folder}/NG_0.png\).* data.layout=",
    ):
        read_layout(names, "auto", "_mask")
    layout = "folders" if folder == "good" else "mvtec"
    assert (
        read_layout(names, layout, "_mask")
        .notes[0]
        .startswith("1 of 4 photographs in folders of good parts have names")
    )


def test_a_folder_of_good_parts_is_taken_at_its_word_and_doubts_are_reported_first() -> None:
    reading = read_layout(["train/good/0.png", "train/good/scratch/1.png", "ground_truth/x/1.png"], "auto", "_mask")
    assert len(reading.photographs) == 2
    assert reading.notes[0].startswith(
        "1 of 2 photographs in folders of good parts have names that speak of a defect (train/good/scratch/1.png)"
    )


def test_images_and_masks_in_folders_of_their_own() -> None:
    names = ["Data/Images/Normal/0.JPG", "Data/Images/Anomaly/0.JPG", "Data/Masks/Anomaly/0.png"]
    photographs = by_path(read_layout(names, "auto", "_mask"))
    assert photographs["Images/Normal/0.JPG"].label == "good"
    assert photographs["Images/Anomaly/0.JPG"] == Photograph(
        "Images/Anomaly/0.JPG", "test", "defect", "Anomaly", ("Masks/Anomaly/0.png",)
    )


def test_two_files_of_one_name_are_reported_first() -> None:
    reading = read_layout(["good/0.png", "Imgs/1.jpg", "Imgs/1.png"], "auto", "_mask")
    assert reading.notes[0].startswith(
        "1 name in a folder for two files or more, all taken as photographs (Imgs/1.jpg, Imgs/1.png)"
    )


def test_pictures_and_archives_that_are_passed_over_are_named() -> None:
    names = [
        "good/0.png",
        "good/0.jfif",
        "good/1.JPE",
        "good/a.heic",
        "good/b.GIF",
        "more.zip",
        "Thumbs.db",
        "good/desktop.ini",
    ]
    reading = read_layout(names, "auto", "_mask", source_notes=["A note of the source."])
    assert len(reading.photographs) == 3
    notes = [note for note in reading.notes if "two files" not in note]
    assert notes == [
        "A note of the source.",
        "2 pictures left out: .heic, .gif are not read (good/a.heic, good/b.GIF); save them as PNG, TIFF or JPEG.",
        "1 archive inside the source left out (more.zip); unpack what belongs to it.",
        "2 hidden files left out.",
    ]


@pytest.mark.parametrize(
    ("names", "layout", "sentence"),
    [
        (["a.heic", "b.heic"], "auto", r"no images, but 2 pictures \(a.heic, b.heic\)"),
        (["a.zip"], "auto", r"no images, but 1 archive \(a.zip\)"),
        (
            ["train/good/0.png", "test/cut/1.png"],
            "folders",
            "as layout folders needs; it has test, train. data.layout=mvtec fits it",
        ),
        (["good/0.png", "cut/0.png"], "mvtec", "as layout mvtec needs; it has cut, good. data.layout=folders fits it"),
        (
            ["good/0.png", "test/good/0.png", "test/cut/0.png"],
            "auto",
            "holds test beside a folder of normals: .* train/good",
        ),
        (["a/good/0.png", "b/good/0.png"], "auto", r"holds several sets \(a, b\)"),
        (["a/train/good/0.png", "b/0.png"], "auto", r"holds a set in a and something else beside it \(b\)"),
        ([], "auto", "has no images"),
        (["a.txt", ".b.png"], "auto", r"has no images \(2 other files\)"),
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
