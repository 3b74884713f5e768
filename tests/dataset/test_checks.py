"""What the dataset check finds, on small sets brought in through ingest with one thing made wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from step_calls import ingest
from vqi.dataset.checks import Finding, Verdict, chosen_samples, judge
from vqi.dataset.generator import generate
from vqi.dataset.geometry import Geometry
from vqi.dataset.inspection import CONTOUR, FRAME, Inspection, inspect_samples
from vqi.dataset.reader import Dataset

SIZE = (128, 128)


@pytest.fixture(scope="module")
def flanges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flanges") / "source"
    generate(folder, seed=5, normals=12, test_normals=3, defects_each=2, size=SIZE)
    return folder


@pytest.fixture
def source(flanges: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(flanges, tmp_path / "source"))


@pytest.fixture
def check(source: Path, tmp_path: Path) -> Callable[..., Verdict]:
    def run(
        geometry: Geometry | None = None,
        rate: float = 0.1,
        calibration: float | None = 0.0,
        labelled: float = 0.0,
        trains: bool = False,
        group: str = "",
    ) -> Verdict:
        folder = tmp_path / "dataset"
        ingest(
            name="flanges",
            source=str(source),
            layout="mvtec",
            mask_suffix="_mask",
            calibration_fraction=calibration,
            labelled_fraction=labelled,
            seed=0,
            dataset=folder,
            false_reject_rate=rate,
            trains=trains,
            group=group,
        )
        dataset, geometry = Dataset(folder), geometry or Geometry(size=SIZE)
        return judge(dataset.manifest, inspect_samples(dataset, geometry, ()), geometry, rate, trains, calibration)

    return run


def findings_by_code(verdict: Verdict) -> dict[str, Finding]:
    assert len({finding.code for finding in verdict.findings}) == len(verdict.findings)
    return {finding.code: finding for finding in verdict.findings}


def test_a_sound_set_passes_without_a_word(check: Callable[..., Verdict]) -> None:
    verdict = check()
    assert verdict.findings == ()
    assert verdict.check_pass
    assert verdict.counts["train"] == {"good": 12, "defect": 0, "unknown": 0}
    assert verdict.counts["test"] == {"good": 3, "defect": 10, "unknown": 0}
    assert verdict.defects["test"] == {
        "good": 3,
        "chipped_edge": 2,
        "dent": 2,
        "missing_hole": 2,
        "scratch": 2,
        "stain": 2,
    }
    assert verdict.record.num_classes == 6


def test_truncated_and_unreadable_images_stop_it(source: Path, check: Callable[..., Verdict]) -> None:
    (source / "train/good/001.png").write_bytes(b"no picture at all")
    Image.open(source / "train/good/002.png").save(source / "train/good/002.jpg")
    (source / "train/good/002.png").unlink()
    whole = (source / "train/good/002.jpg").read_bytes()
    (source / "train/good/002.jpg").write_bytes(whole[: len(whole) // 2])
    verdict = check()
    finding = findings_by_code(verdict)["unreadable-image"]
    assert not verdict.check_pass
    assert finding.paths == (("train/good/001.png",), ("train/good/002.jpg",))
    assert "2 images" in finding.sentence
    assert "train/good/001.png" in verdict.reasons


def test_an_image_larger_than_any_camera_stops_it(source: Path, check: Callable[..., Verdict]) -> None:
    Image.new("1", (20_000, 10_000)).save(source / "test/good/001.png")
    assert "megapixels" in findings_by_code(check())["unreadable-image"].sentence


def test_masks_of_another_size_empty_or_unreadable_stop_it(source: Path, check: Callable[..., Verdict]) -> None:
    masks = source / "ground_truth"
    Image.open(masks / "dent/000_mask.png").resize((64, 64)).save(masks / "dent/000_mask.png")
    Image.new("L", SIZE).save(masks / "scratch/001_mask.png")
    (masks / "stain/000_mask.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    verdict = check()
    findings = findings_by_code(verdict)
    assert findings["mask-size"].paths == (("ground_truth/dent/000_mask.png",),)
    assert "64 x 64" in findings["mask-size"].sentence
    assert "128 x 128" in findings["mask-size"].sentence
    assert findings["empty-mask"].paths == (("ground_truth/scratch/001_mask.png",),)
    assert findings["unreadable-mask"].paths == (("ground_truth/stain/000_mask.png",),)
    assert {finding.code for finding in verdict.errors} == {"mask-size", "empty-mask", "unreadable-mask"}


def redraw(source: Path, draw: Callable[[np.ndarray], np.ndarray]) -> list[Path]:
    """Save all masks anew, drawn from where they mark a defect (bool [H, W])."""
    masks = sorted((source / "ground_truth").glob("*/*.png"))
    for path in masks:
        Image.fromarray(draw(np.asarray(Image.open(path).convert("L")) > 127)).save(path)
    return masks


def test_an_empty_mask_names_the_values_met(source: Path, check: Callable[..., Verdict]) -> None:
    redraw(source, lambda marked: marked * np.uint8(2))
    Image.new("L", SIZE).save(source / "ground_truth/scratch/001_mask.png")
    assert "marks no pixel (values: 0; background is 0)" in findings_by_code(check())["empty-mask"].sentence


@pytest.mark.parametrize("values", [(255, 0), (0, 7), (200, 90)])
def test_whatever_masks_are_drawn_with_the_set_is_the_same(
    source: Path, check: Callable[..., Verdict], values: tuple[int, int]
) -> None:
    expected = [inspection.mask for inspection in inspect_source(source)]
    redraw(source, lambda marked: np.where(marked, np.uint8(values[1]), np.uint8(values[0])))
    assert check().findings == ()
    assert [inspection.mask for inspection in inspect_source(source)] == expected


def inspect_source(source: Path) -> list[Inspection]:
    folder = source.parent / "observed"
    ingest(
        name="flanges",
        source=str(source),
        layout="mvtec",
        mask_suffix="_mask",
        calibration_fraction=0.0,
        seed=0,
        dataset=folder,
    )
    return inspect_samples(Dataset(folder), Geometry(size=SIZE), ())


def test_masks_drawn_both_ways_stop_it(source: Path, check: Callable[..., Verdict]) -> None:
    masks = redraw(source, lambda marked: marked * np.uint8(255))
    for path in masks[:3]:
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    verdict = check()
    finding = findings_by_code(verdict)["mask-conventions"]
    assert not verdict.check_pass
    assert {path for (path,) in finding.paths} == {str(path.relative_to(source)) for path in masks[:3]}
    assert "background: it is 0 in 7 of them, and in 3" in finding.sentence
    assert "values: 255 and 0" in finding.sentence


def test_a_mask_that_marks_most_of_a_photograph_is_a_question(source: Path, check: Callable[..., Verdict]) -> None:
    masks = redraw(source, lambda marked: marked * np.uint8(255))
    Image.new("L", SIZE, 255).save(masks[0])
    verdict = check()
    finding = findings_by_code(verdict)["mask-covers-most"]
    assert verdict.check_pass
    assert finding.paths == ((str(masks[0].relative_to(source)),),)
    assert "(the first 100%; values: 255; background is 0): inverted?" in finding.sentence
    for path in masks:
        Image.new("L", SIZE, 255).save(path)
    assert (
        "10 images, 10 of 10 masks, have a mask that marks more than half"
        in findings_by_code(check())["mask-covers-most"].sentence
    )


def test_photographs_as_masks_stop_it(source: Path, check: Callable[..., Verdict]) -> None:
    random = np.random.default_rng(0)
    redraw(
        source,
        lambda marked: np.where(
            marked[..., None], np.uint8([255, 0, 0]), random.integers(60, 200, (*SIZE, 3), dtype=np.uint8)
        ),
    )
    assert "as photographs do" in findings_by_code(check())["mask-meaning"].sentence


def test_transparent_pixels_are_a_finding_and_opaque_alpha_is_none(source: Path, check: Callable[..., Verdict]) -> None:
    for path in sorted((source / "train/good").glob("*.png"))[:6]:
        image = Image.open(path).convert("RGBA")
        image.save(path)
        if path.stem > "003":
            image.paste((250, 0, 0, 0), (0, 0, SIZE[1], SIZE[0] // 4))
            image.save(path)
    verdict = check()
    assert findings_by_code(verdict)["transparent"].paths == (("train/good/004.png",), ("train/good/005.png",))
    assert (
        "2 images have transparent pixels (25.0% of all): they become grey 128"
        in findings_by_code(verdict)["transparent"].sentence
    )
    assert set(findings_by_code(verdict)) == {"transparent"}


def test_values_above_white_are_a_finding(source: Path, check: Callable[..., Verdict]) -> None:
    for path in source.glob("t*/*/*.png"):
        values = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * (
            16 if path.parent.parent.name == "train" else 64
        )
        Image.fromarray(values).save(path)
    verdict = check()
    assert "values above the white level, 4095 (" in findings_by_code(verdict)["clipped-white"].sentence
    assert all(path.startswith("test/") for (path,) in findings_by_code(verdict)["clipped-white"].paths)


def test_missing_masks_only_warn(source: Path, check: Callable[..., Verdict]) -> None:
    (source / "ground_truth/dent/000_mask.png").unlink()
    verdict = check()
    assert verdict.check_pass
    assert (
        findings_by_code(verdict)["mask-missing"].sentence
        == "1 of 10 defect images have no mask: pixel metrics leave them out."
    )
    shutil.rmtree(source / "ground_truth")
    assert (
        findings_by_code(check())["mask-missing"].sentence
        == "None of the 10 defect images has a mask: no pixel metric can be computed."
    )


def test_the_same_file_in_train_and_test_stops_it(source: Path, check: Callable[..., Verdict]) -> None:
    shutil.copy(source / "train/good/003.png", source / "test/good/copy.png")
    verdict = check()
    assert findings_by_code(verdict)["leakage"].paths == (("test/good/copy.png", "train/good/003.png"),)
    assert not verdict.check_pass
    assert "near-leakage" not in findings_by_code(verdict)


def test_the_same_file_as_good_and_as_defect_stops_it(source: Path, check: Callable[..., Verdict]) -> None:
    shutil.copy(source / "test/good/000.png", source / "test/dent/copy.png")
    assert findings_by_code(check())["contradictory-label"].severity == "error"


def test_copies_inside_a_split_warn(source: Path, check: Callable[..., Verdict]) -> None:
    shutil.copy(source / "train/good/003.png", source / "train/good/copy.png")
    finding = findings_by_code(check())["duplicate"]
    assert finding.severity == "warning"
    assert finding.paths == (("train/good/003.png", "train/good/copy.png"),)


def test_a_photograph_saved_again_warns_across_splits(source: Path, check: Callable[..., Verdict]) -> None:
    Image.open(source / "train/good/003.png").save(source / "test/good/again.jpg", quality=80)
    verdict = check()
    assert verdict.check_pass
    assert findings_by_code(verdict)["near-leakage"].paths == (("test/good/again.jpg", "train/good/003.png"),)
    assert "guaranteed" not in findings_by_code(verdict)["near-leakage"].sentence
    assert "train and test" in findings_by_code(verdict)["near-leakage"].sentence


def test_empty_splits_stop_it(source: Path, check: Callable[..., Verdict]) -> None:
    shutil.rmtree(source / "test")
    shutil.rmtree(source / "ground_truth")
    for image in sorted((source / "train/good").iterdir()):
        image.write_bytes(b"")
    verdict = check()
    assert {"empty-train", "empty-test"} <= {finding.code for finding in verdict.errors}
    assert "12 images cannot be used" in verdict.reasons


def test_a_test_split_of_one_kind_warns(source: Path, check: Callable[..., Verdict]) -> None:
    shutil.rmtree(source / "test/good")
    assert findings_by_code(check())["no-good-test"].severity == "warning"


def test_labelled_photographs_are_counted_and_few_of_them_warn(check: Callable[..., Verdict]) -> None:
    verdict = check(labelled=0.5)
    assert verdict.check_pass
    assert verdict.counts["labelled"] == {"good": 2, "defect": 5, "unknown": 0}
    assert verdict.counts["test"] == {"good": 1, "defect": 5, "unknown": 0}
    few = findings_by_code(verdict)["few-labelled"]
    assert few.severity == "warning"
    assert "chipped_edge (1), dent (1)" in few.sentence
    assert (
        "labelled defect are left to test on: 5; one more or less moves the share of defects found by 20 %"
        in few.sentence
    )
    assert "labelled good are left to test on: 1;" in few.sentence


@pytest.mark.slow
def test_no_labelled_defect_stops_it(source: Path, check: Callable[..., Verdict]) -> None:
    for kind in ("chipped_edge", "dent", "missing_hole", "scratch", "stain"):
        (source / f"test/{kind}/001.png").unlink()
        (source / f"ground_truth/{kind}/001_mask.png").unlink()
    assert findings_by_code(check(labelled=0.8))["no-labelled-defect"].severity == "error"
    assert "no-labelled-defect" not in findings_by_code(check())


def test_what_is_learnt_from_and_tested_on_stops_it(source: Path, tmp_path: Path) -> None:
    """Ingest keeps copies together; a manifest made by other means may not."""
    shutil.copy(source / "test/dent/000.png", source / "test/dent/copy.png")
    shutil.copy(source / "ground_truth/dent/000_mask.png", source / "ground_truth/dent/copy_mask.png")
    folder = tmp_path / "dataset"
    ingest(
        name="flanges",
        source=str(source),
        layout="mvtec",
        mask_suffix="_mask",
        calibration_fraction=0,
        seed=0,
        dataset=folder,
        labelled_fraction=0.5,
    )
    inspections = inspect_samples(Dataset(folder), Geometry(size=SIZE), ())
    split = {o.sample.path: o.sample.split for o in inspections}
    assert split["test/dent/copy.png"] == split["test/dent/000.png"]
    torn = [
        replace(o, sample=replace(o.sample, split="test" if "copy" in o.sample.path else "labelled"))
        for o in inspections
        if "dent" in o.sample.path
    ]
    manifest = replace(Dataset(folder).manifest, samples=tuple(o.sample for o in torn))
    leakage = findings_by_code(judge(manifest, torn, Geometry(size=SIZE), 0.1))["leakage"]
    assert leakage.severity == "error"
    assert "labelled and test" in leakage.sentence


def test_few_normals_warn_and_one_stops_it(source: Path, check: Callable[..., Verdict]) -> None:
    for number in range(4, 12):
        (source / f"train/good/{number:03}.png").unlink()
    assert findings_by_code(check(rate=0.3))["few-normals"].severity == "warning"
    for number in range(1, 4):
        (source / f"train/good/{number:03}.png").unlink()
    assert findings_by_code(check(rate=0.6))["empty-train"].severity == "error"


@pytest.mark.slow
def test_too_few_images_for_the_false_reject_rate_name_the_smallest_possible(check: Callable[..., Verdict]) -> None:
    refits = findings_by_code(check(rate=0.01))["few-for-threshold"].sentence
    assert "12 normal images" in refits
    assert "7.69%" in refits
    assert "99 normal images in all are needed" in refits
    held_out = findings_by_code(check(rate=0.1, calibration=0.25))["few-for-threshold"].sentence
    assert "the 3 of 12 normal images that are held out" in held_out
    assert "25.00%" in held_out
    assert "36 normal images in all are needed" in held_out
    trained = findings_by_code(check(rate=0.01, calibration=None, trains=True))["few-for-threshold"].sentence
    assert "the 2 of 12 normal images that are held out" in trained
    assert "33.33%" in trained
    assert "495 normal images in all are needed" in trained
    assert (
        "promises no false-reject rate"
        in findings_by_code(check(rate=0.1, calibration=0.0, trains=True))["seen-threshold"].sentence
    )


def test_several_photographs_of_a_part_count_once(source: Path, check: Callable[..., Verdict]) -> None:
    for number in range(12):
        Image.open(source / f"train/good/{number:03}.png").save(
            source / f"train/good/{number:03}-again.jpg", quality=85
        )
    findings = findings_by_code(check(rate=0.01))
    assert "12 normal parts (several images of one count once)" in findings["few-for-threshold"].sentence
    assert "7.69%" in findings["few-for-threshold"].sentence
    assert len(findings["near-duplicate"].paths) == 12
    assert findings["near-duplicate"].sentence.endswith("and count as one part for the threshold.")
    # Names are believed, and what follows from them is said.
    assert "parts of their own here" in findings_by_code(check(rate=0.1, group="(.*)"))["near-duplicate"].sentence


def test_a_part_in_train_and_test_is_reported(source: Path, check: Callable[..., Verdict]) -> None:
    finding = findings_by_code(check(group=r"(00[01])\.png"))["part-leakage"]
    assert finding.severity == "warning"
    assert finding.sentence.startswith("2 parts stand in more than one split (train and test)")


def test_a_part_that_is_learnt_from_and_sets_the_threshold_is_reported(source: Path, tmp_path: Path) -> None:
    """Ingest keeps parts together; a manifest made by other means may not."""
    Image.open(source / "train/good/003.png").save(source / "train/good/again.jpg", quality=85)
    folder = tmp_path / "dataset"
    ingest(
        name="flanges",
        source=str(source),
        layout="mvtec",
        mask_suffix="_mask",
        calibration_fraction=0.3,
        seed=0,
        dataset=folder,
    )
    inspections = inspect_samples(Dataset(folder), Geometry(size=SIZE), ())
    split = {o.sample.path: o.sample.split for o in inspections}
    assert split["train/good/003.png"] == split["train/good/again.jpg"]
    other = "train" if split["train/good/again.jpg"] == "calibration" else "calibration"
    torn = [
        replace(o, sample=replace(o.sample, group="", split=other if "again" in o.sample.path else o.sample.split))
        for o in inspections
    ]
    manifest = replace(Dataset(folder).manifest, samples=tuple(o.sample for o in torn))
    assert (
        "is not guaranteed"
        in findings_by_code(judge(manifest, torn, Geometry(size=SIZE), 0.5))["near-leakage"].sentence
    )


@pytest.mark.slow
def test_geometry_that_does_not_fit_the_images(check: Callable[..., Verdict]) -> None:
    outside = findings_by_code(check(Geometry(size=(64, 64), region=(0, 0, 129, 64))))
    assert outside["region-outside"].severity == "error"
    assert len(outside["region-outside"].paths) == 25
    half = findings_by_code(check(Geometry(size=(64, 64), region=(0, 0, 64, 128))))["defect-outside"]
    assert half.severity == "warning"
    assert 0 < len(half.paths) < 10
    assert findings_by_code(check(Geometry(size=(256, 256))))["enlarged"].severity == "warning"
    assert "enlarged" not in findings_by_code(check(Geometry(size=(128, 128), crop=(96, 96))))


def test_a_defect_smaller_than_a_pixel_of_the_network_warns(source: Path, check: Callable[..., Verdict]) -> None:
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[40, 40] = 255
    Image.fromarray(mask).save(source / "ground_truth/dent/001_mask.png")
    assert findings_by_code(check(Geometry(size=(32, 32))))["defect-vanishes"].paths == (("test/dent/001.png",),)


def test_mixed_sizes_channels_orientation_and_blank_images_warn(source: Path, check: Callable[..., Verdict]) -> None:
    Image.open(source / "train/good/000.png").resize((200, 150)).save(source / "train/good/000.png")
    Image.open(source / "train/good/001.png").convert("L").save(source / "train/good/001.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(source / "train/good/002.png").save(source / "train/good/002.png", exif=exif)
    Image.new("RGB", SIZE, (3, 3, 3)).save(source / "train/good/003.png")
    verdict = check()
    findings = findings_by_code(verdict)
    assert verdict.check_pass
    assert findings["mixed-sizes"].paths == (("train/good/000.png",),)
    assert "distorts" in findings["mixed-sizes"].sentence
    assert findings["mixed-channels"].paths == (("train/good/001.png",),)
    assert findings["turned"].paths == (("train/good/002.png",),)
    assert findings["blank"].paths == (("train/good/003.png",),)


def test_a_shard_changed_after_ingest_is_noticed(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    ingest(
        name="flanges",
        source=str(source),
        layout="mvtec",
        mask_suffix="_mask",
        calibration_fraction=0.0,
        seed=0,
        dataset=folder,
    )
    sample = Dataset(folder).samples("train")[0]
    shard = folder / sample.image.shard
    content = bytearray(shard.read_bytes())
    content[sample.image.offset + sample.image.length - 30] ^= 1
    shard.write_bytes(content)
    inspections = inspect_samples(Dataset(folder), Geometry(size=SIZE), ())
    assert [o.sample.path for o in inspections if o.problem] == [sample.path]


def test_labels_that_do_not_belong(source: Path, tmp_path: Path) -> None:
    """Layouts keep defects out of train and masks off good images; a manifest made by other means may not."""
    folder = tmp_path / "dataset"
    ingest(
        name="flanges",
        source=str(source),
        layout="mvtec",
        mask_suffix="_mask",
        calibration_fraction=0.0,
        seed=0,
        dataset=folder,
    )
    dataset = Dataset(folder)
    labels = {"train/good/000.png": "defect", "test/good/000.png": "unknown", "test/dent/001.png": "good"}
    inspections = [
        replace(o, sample=replace(o.sample, label=labels.get(o.sample.path, o.sample.label)))
        for o in inspect_samples(dataset, Geometry(size=SIZE), ())
    ]
    manifest = replace(dataset.manifest, samples=tuple(o.sample for o in inspections))
    findings = findings_by_code(judge(manifest, inspections, Geometry(size=SIZE), 0.1))
    assert findings["defect-in-train"].severity == "error"
    assert findings["defect-in-train"].paths == (("train/good/000.png",),)
    assert findings["mask-on-good"].severity == "error"
    assert findings["mask-on-good"].paths == (("ground_truth/dent/001_mask.png",),)
    assert findings["unknown-label"].severity == "warning"
    assert findings["unknown-label"].paths == (("test/good/000.png",),)


def test_pictures_show_the_defect_and_what_the_network_sees(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    ingest(
        name="flanges",
        source=str(source),
        layout="mvtec",
        mask_suffix="_mask",
        calibration_fraction=0.0,
        seed=0,
        dataset=folder,
    )
    dataset = Dataset(folder)
    chosen = chosen_samples(dataset.manifest)
    assert len(chosen["train"]) == len(chosen["test"]) == 10
    assert {path.split("/")[1] for path in chosen["test"]} == {
        "good",
        "chipped_edge",
        "dent",
        "missing_hole",
        "scratch",
        "stain",
    }
    path = "test/stain/000.png"
    images = {
        o.sample.path: o.image for o in inspect_samples(dataset, Geometry(size=(128, 128), crop=(96, 96)), {path})
    }
    assert [name for name, image in images.items() if image and image.picture is not None] == [path]
    picture = images[path].picture  # type: ignore[union-attr]
    mask = np.asarray(Image.open(source / "ground_truth/stain/000_mask.png")) > 0
    outline = (picture == CONTOUR).all(axis=2)
    assert outline.any()
    assert not (outline & mask).any()
    assert (picture[16, 16:112] == FRAME).all()


def test_pictures_show_the_area(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    ingest(name="flanges", source=str(source), seed=0, dataset=folder)
    dataset = Dataset(folder)
    path = "train/good/000.png"
    geometry = Geometry(area="20,20 100,20 100,90 20,90")
    (inspection,) = inspect_samples(dataset, geometry, {path}, only={path})
    assert inspection.image
    picture = inspection.image.picture
    assert picture is not None
    assert (picture[19, 21:99] == FRAME).all()
    assert not (picture[50, 30:90] == FRAME).all(axis=1).any()
