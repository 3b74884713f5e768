"""The contract of layout readers: how they are found, what they may open, and what they may return."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from photograph_folders import photograph, write_files
from s3_server import Server, new_bucket
from step_calls import ingest
from vqi.category import Category
from vqi.dataset import layouts as registry
from vqi.dataset.layouts import discover_layouts, layouts
from vqi.dataset.layouts.interface import (
    Box,
    LayoutReader,
    Match,
    Options,
    Photograph,
    Polygon,
    Reading,
    RunLengths,
    SourceFiles,
)
from vqi.dataset.manifest import Manifest, read_manifest
from vqi.dataset.reader import Dataset
from vqi.platform.errors import BadInput
from vqi.storage.object_store import Address, ObjectStore

Installing = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Installing]:
    """Makes classes readers of installed packages: install(a_class, ...)."""

    def installed(*kinds: Any) -> None:
        class Point(EntryPoint):
            def load(self) -> Any:
                return kinds[int(self.name)]

        points = [Point(str(number), "a_package:Reader", registry.ENTRY_POINTS) for number in range(len(kinds))]
        monkeypatch.setattr(registry, "entry_points", lambda group: points)
        layouts.cache_clear()

    yield installed
    layouts.cache_clear()


def reader(
    read: Callable[[SourceFiles], Any], sureness: float = 1.0, called: str = "strange", only_by_name: bool = False
) -> type[LayoutReader]:
    """A reader that recognises every source."""

    class Strange(LayoutReader):
        name = called

        def detect(self, files: SourceFiles) -> Match:
            return Match(sureness, "it is a test", only_by_name)

        def read(self, files: SourceFiles, options: Options) -> Reading:
            return read(files)

    return Strange


def returning(*photographs: Any) -> type[LayoutReader]:
    return reader(lambda files: Reading(tuple(photographs)))


def files(**more: bytes) -> dict[str, bytes]:
    return {**{f"{number}.png": photograph(number) for number in range(6)}, **more}


def run(source: Path | str, dataset: Path, **changes: Any) -> Manifest:
    values = {"layout": "auto", "mask_suffix": "_mask", "calibration_fraction": None, "seed": 0} | changes
    return ingest(name="part", source=str(source), dataset=dataset, **values)


GOOD = tuple(Photograph(f"{number}.png", None, "good", "good") for number in range(5))


def cut(*masks: Any, **more: Any) -> Photograph:
    return Photograph("5.png", "test", "defect", "cut", masks, **more)


def test_ours_are_found_as_those_of_packages_are(install: Installing) -> None:
    ours = list(discover_layouts())
    assert {"coco", "folders", "mvtec", "table"} < set(ours)
    install(returning(*GOOD))
    assert list(layouts()) == sorted([*ours, "strange"])
    assert Category.parse({"data": {"layout": "strange"}}).data.layout == "strange"
    with pytest.raises(BadInput, match=r"data.layout is 'strnge'. Did you mean 'strange'\?"):
        Category.parse({"data": {"layout": "strnge"}})


class Half(LayoutReader):
    name = "half"

    def detect(self, files: SourceFiles) -> Match:
        return Match(1, "always")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (reader(lambda files: 0, called="mvtec"), "has the name of another layout, 'mvtec'; rename it."),
        (reader(lambda files: 0, called="auto"), "has the name 'auto'; a layout's name is of small letters"),
        (reader(lambda files: 0, called="My Layout"), "has the name 'My Layout'"),
        (Half, "does not name a LayoutReader with detect and read"),
        (dict, "does not name a LayoutReader"),
        (returning(*GOOD)(), "does not name a LayoutReader"),
    ],
)
def test_what_is_not_a_layout_is_refused_by_name(install: Installing, kind: Any, sentence: str) -> None:
    install(kind)
    with pytest.raises(BadInput, match=sentence) as refused:
        layouts()
    assert str(refused.value).startswith("The entry point 0 = a_package:Reader of the group vqi.layouts ")


def test_a_package_that_cannot_be_imported_is_named(install: Installing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [EntryPoint("broken", "no_such_package:Reader", registry.ENTRY_POINTS)]
    )
    layouts.cache_clear()
    with pytest.raises(BadInput, match=r"broken = no_such_package:Reader .* cannot be loaded \(ModuleNotFoundError"):
        layouts()


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (
            [Photograph("../x.png", None, "good", "good")],
            "for the photograph '../x.png' a path that is not a file of the source",
        ),
        ([Photograph("/etc/passwd", None, "good", "good")], "a path that is not a file of the source"),
        ([Photograph(7, None, "good", "good")], "the path 7"),
        ([*GOOD, GOOD[0]], "the photograph 0.png twice"),
        ([Photograph("0.png", "training", "good", "good")], "the split 'training' .one of train, validation, test or"),
        ([Photograph("0.png", "calibration", "good", "good")], "the split 'calibration'"),
        ([Photograph("0.png", "test", "fine", "good")], "the label 'fine' .one of good, defect, unknown."),
        ([Photograph("0.png", "test", "defect", "")], "the defect type ''"),
        ([Photograph("0.png", "test", "defect", "good")], "the defect type 'good' with the label 'defect'"),
        ([Photograph("0.png", "test", "good", "cut")], "the defect type 'cut' with the label 'good'"),
        ([Photograph("0.png", "train", "defect", "cut")], "the label 'defect' with the split 'train' .only good"),
        ([Photograph("0.png", None, "unknown", "unknown")], "the label 'unknown' with the split None"),
        ([Photograph("0.png", None, "good", "good", group=3)], "the group 3"),
        ([cut("../mask.png")], "the mask '../mask.png', which is not a file of the source; mend"),
        ([cut("0.png"), *GOOD], "the mask 0.png of 5.png as a photograph too"),
        ([cut((1, 2, 3, 4))], "a mask that is neither a path nor a drawing .tuple."),
        ([cut(Polygon([(1, 2), (None, 3)]))], "for the photograph '5.png' a polygon whose points are not finite"),
        ([cut(*[Polygon(np.ones((20_000, 2)))] * 11)], "polygons of 220000 points, more than 200000"),
        ([cut(*[Box(1, 1, 2, 2)] * 10_001)], "more than 10000 masks"),
        ([cut(size=(32, "32"))], "the size .32, '32'."),
        ([cut(content="0.png")], "a content that cannot be called"),
        ([Photograph("a/../b.png", None, "good", "good", content=bytes)], "a path that leads out of the Dataset"),
        (["0.png"], "str in place of a Photograph"),
    ],
)
def test_what_a_reader_may_not_return(install: Installing, tmp_path: Path, returned: list[Any], sentence: str) -> None:
    install(returning(*returned))
    with pytest.raises(BadInput, match=sentence) as refused:
        run(write_files(tmp_path / "set", files()), tmp_path / "dataset")
    assert str(refused.value).startswith("The reader of layout strange returned ")
    assert not (tmp_path / "dataset").exists()


def test_what_a_reader_may_not_return_in_place_of_a_reading(install: Installing, tmp_path: Path) -> None:
    source = write_files(tmp_path / "set", files())
    install(reader(lambda files: list(GOOD)))
    with pytest.raises(BadInput, match="The reader of layout strange returned list in place of a Reading"):
        run(source, tmp_path / "dataset")
    install(reader(lambda files: Reading(GOOD, (3,))))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="returned a note that is not text"):
        run(source, tmp_path / "dataset")


def test_a_reader_that_raises_is_named(install: Installing, tmp_path: Path) -> None:
    source = write_files(tmp_path / "set", files())
    install(reader(lambda files: {}["shapes"]))
    with pytest.raises(BadInput, match=r"The reader of layout strange failed \(KeyError: 'shapes'\); mend or remove"):
        run(source, tmp_path / "dataset")
    install(returning(*GOOD[1:], Photograph("made.png", "test", "good", "good", content=lambda: {}[0])))
    with pytest.raises(BadInput, match=r"The reader of layout strange failed \(KeyError: 0\)"):
        run(source, tmp_path / "dataset")

    def leave(files: SourceFiles) -> Any:
        sys.exit(3)

    install(reader(leave))
    with pytest.raises(BadInput, match=r"The reader of layout strange failed \(SystemExit: 3\)"):
        run(source, tmp_path / "dataset")

    class Detecting(reader(lambda files: 0)):  # type: ignore[misc]
        def detect(self, files: SourceFiles) -> Match:
            raise RuntimeError("no luck")

    install(Detecting)
    for layout in ("auto", "strange"):
        with pytest.raises(BadInput, match=r"The reader of layout strange failed \(RuntimeError: no luck\)"):
            run(source, tmp_path / "dataset", layout=layout)
    # Who names another layout does without it.
    assert run(source, tmp_path / "dataset", layout="folders").samples


@pytest.mark.parametrize(
    ("photographs", "sentence"),
    [
        ([cut(Polygon([(90, 90), (95, 95), (90, 95)]))], "has a polygon off the photograph: it lies at x 90 to 95"),
        ([cut(RunLengths([16], 4, 4))], "has a run-length mask of 4 x 4 pixels, and the photograph has 32 x 32"),
        ([cut(RunLengths([1, 5], 32, 32))], "has a run-length mask whose runs cover 6 pixels of 1024"),
        ([cut(Box(1, 1, 4, 4), size=(640, 480))], "has 32 x 32 pixels, and its annotation is of 640 x 480"),
        ([cut(ignore=("small.tif",))], "has 32 x 32 pixels, and a file of regions to ignore 8 x 8"),
        ([cut(ignore=("damaged.tif",))], "has 32 x 32 pixels, and a file of regions to ignore 0 x 0"),
    ],
)
def test_what_does_not_fit_the_photograph(
    install: Installing, tmp_path: Path, photographs: list[Photograph], sentence: str
) -> None:
    install(returning(*GOOD, *photographs))
    source = files(**{"small.tif": png(np.eye(8, dtype=bool)), "damaged.tif": b"II*\0"})
    with pytest.raises(BadInput, match=sentence) as refused:
        run(write_files(tmp_path / "set", source), tmp_path / "dataset")
    assert str(refused.value).startswith("The photograph 5.png (layout strange) ")


def test_drawings_are_stored_as_masks(install: Installing, tmp_path: Path) -> None:
    square = Polygon([(4, 4), (9, 4), (9, 9), (4, 9)])
    install(returning(*GOOD, cut(square, Box(20, 20, 40, 24), ignore=(Box(0, 0, 3, 3), "ignored.tif"))))
    source = write_files(tmp_path / "set", files(**{"ignored.tif": png(np.eye(32, dtype=bool))}))
    manifest = run(source, tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    assert dataset.manifest == manifest == read_manifest(tmp_path / "dataset")
    (sample,) = (sample for sample in manifest.samples if sample.label == "defect")
    assert [(mask.path, mask.kind) for mask in (*sample.masks, *sample.ignore)] == [
        ("5.png.outline-mask.png", "outline"),
        ("5.png.box-mask.png", "box"),
        ("ignored.tif", "file"),
        ("5.png.box-ignore.png", "box"),
    ]
    assert sample.boxes == ((20, 20, 32, 24),)
    outlines, boxed = dataset.outlines(sample), dataset.boxed(sample)
    expected = np.zeros((32, 32), bool)
    expected[4:10, 4:10] = True
    assert outlines is not None
    assert boxed is not None
    assert np.array_equal(outlines, expected)
    assert np.array_equal(np.argwhere(boxed)[[0, -1]], [[20, 20], [23, 31]])
    expected[20:24, 20:] = True
    mask, ignored = dataset.mask(sample), dataset.ignored(sample)
    assert mask is not None
    assert ignored is not None
    assert np.array_equal(mask, expected)
    expected = np.eye(32, dtype=bool)
    expected[:3, :3] = True
    assert np.array_equal(ignored, expected)
    with Image.open(io.BytesIO(dataset.bytes_of(sample.masks[0].extent))) as stored:
        assert (stored.format, stored.mode, stored.size) == ("PNG", "1", (32, 32))
    for note in (
        "The layout is strange: it is a test.",
        "The masks of 1 photograph are drawn from annotations.",
        "The defects of 1 photograph are boxes (5.png): they say where a defect lies and not what shape it has, so "
        "that no pixel metric counts what lies in a box, and box_recall says how many are found.",
        "1 drawing beyond the edge of the photograph cut off (5.png).",
    ):
        assert note in manifest.notes
    assert any(note.startswith("1 photograph with regions to ignore (5.png)") for note in manifest.notes)


def png(mask: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(stream, "PNG")
    return stream.getvalue()


def test_drawings_keep_their_meaning_beside_inverted_mask_files(install: Installing, tmp_path: Path) -> None:
    defect = np.zeros((32, 32), bool)
    defect[10:14, 10:14] = True
    source = write_files(tmp_path / "set", files(**{"5.tif": png(~defect)}))
    install(returning(*GOOD, cut("5.tif", Box(0, 0, 2, 2))))
    manifest = run(source, tmp_path / "dataset")
    assert manifest.mask_meaning.background == (255, 255, 255, 255)
    (sample,) = (sample for sample in manifest.samples if sample.label == "defect")
    defect[:2, :2] = True
    mask = Dataset(tmp_path / "dataset").mask(sample)
    assert mask is not None
    assert np.array_equal(mask, defect)


def test_the_fingerprint_knows_what_is_drawn(install: Installing, tmp_path: Path) -> None:
    source = write_files(tmp_path / "set", files())
    box, outline = Box(4, 4, 10, 10), Polygon([(4, 4), (9, 4), (9, 9), (4, 9)])
    fingerprints = []
    for number, photograph_ in enumerate(
        [cut(), cut(box), cut(outline), cut(Box(4, 4, 10, 11)), cut(box, ignore=(box,))]
    ):
        install(returning(*GOOD, photograph_))
        fingerprints.append(run(source, tmp_path / f"dataset-{number}").fingerprint)
    assert len(set(fingerprints)) == len(fingerprints)


def test_a_mask_that_is_drawn_takes_the_name_of_no_file(install: Installing, tmp_path: Path) -> None:
    source = write_files(tmp_path / "set", files(**{"5.png.box-mask.png": photograph(9)}))
    install(returning(*GOOD, cut(Box(1, 1, 3, 3)), Photograph("5.png.box-mask.png", "test", "good", "good")))
    manifest = run(source, tmp_path / "dataset")
    (sample,) = (sample for sample in manifest.samples if sample.label == "defect")
    assert [mask.path for mask in sample.masks] == ["5.png.box-mask.png.png"]


def test_a_photograph_may_be_made_by_its_reader(install: Installing, tmp_path: Path) -> None:
    """As those of one file that holds many, such as MNIST's."""
    stack = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)

    def made(files: SourceFiles) -> Reading:
        size = 28 * 28

        def content(number: int) -> bytes:
            with files.open("images.idx") as stream:
                stream.seek(number * size)
                pixels = np.frombuffer(stream.read(size), np.uint8).reshape(28, 28)
            out = io.BytesIO()
            Image.fromarray(pixels).save(out, "PNG")
            return out.getvalue()

        return Reading(
            tuple(
                Photograph(f"9/{number:05d}.png", None, "good", "good", content=lambda number=number: content(number))
                for number in range(len(stack))
            )
        )

    install(reader(made))
    manifest = run(write_files(tmp_path / "set", {"images.idx": stack.tobytes()}), tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    assert [sample.path for sample in manifest.samples] == [f"9/{number:05d}.png" for number in range(12)]
    for number, sample in enumerate(manifest.samples):
        assert np.array_equal(dataset.image(sample)[..., 0], stack[number])


def test_parts_of_the_layout_stay_together_unless_data_group_says_otherwise(
    install: Installing, tmp_path: Path
) -> None:
    source = write_files(tmp_path / "set", {f"{number}.png": photograph(number) for number in range(20)})
    install(
        returning(*(Photograph(f"{number}.png", None, "good", "good", group=f"P{number // 4}") for number in range(20)))
    )
    manifest = run(source, tmp_path / "dataset")
    assert "5 parts are named by the layout; photographs of one stay together." in manifest.notes
    splits: dict[str, set[str]] = {}
    for sample in manifest.samples:
        splits.setdefault(sample.group, set()).add(sample.split)
    assert sorted(splits) == ["P0", "P1", "P2", "P3", "P4"]
    assert all(len(of_one) == 1 for of_one in splits.values())
    manifest = run(source, tmp_path / "again", group="(.)")
    assert {sample.group for sample in manifest.samples} == set("0123456789")


def test_the_surest_layout_reads_and_a_tie_is_a_question(install: Installing, tmp_path: Path) -> None:
    source = write_files(tmp_path / "set", {f"good/{number}.png": photograph(number) for number in range(5)})
    good = tuple(Photograph(f"good/{number}.png", None, "good", "good") for number in range(5))
    sure, unsure = (reader(lambda files: Reading(good, ("Mine.",)), sureness) for sureness in (0.9, 0.4))
    install(sure)
    assert "Mine." in run(source, tmp_path / "dataset").notes
    install(unsure)
    assert "Mine." not in run(source, tmp_path / "dataset").notes
    assert "Mine." in run(source, tmp_path / "dataset", layout="strange").notes
    install(reader(lambda files: Reading(good, ("Mine.",)), 1.0, only_by_name=True))
    assert "Mine." not in run(source, tmp_path / "dataset").notes
    assert "Mine." in run(source, tmp_path / "dataset", layout="strange").notes
    install(sure, reader(lambda files: Reading(good), 0.9, "stranger"))
    with pytest.raises(BadInput, match=r"several ways: strange \(it is a test\); stranger \(it is a test\); name one"):
        run(source, tmp_path / "dataset")


def test_a_damaged_file_of_another_layout_stops_nothing(install: Installing, tmp_path: Path) -> None:
    class Reader(reader(lambda files: 0)):  # type: ignore[misc]
        def detect(self, files: SourceFiles) -> Match:
            return Match(float(bool(files.json("labels.json"))), "it has labels.json")

    install(Reader)
    content = {f"good/{number}.png": photograph(number) for number in range(5)}
    source = write_files(tmp_path / "set", {**content, "labels.json": b"{"})
    assert len(run(source, tmp_path / "dataset").samples) == 5
    for number in range(5):
        (source / "good" / f"{number}.png").rename(source / f"{number}.png")
    (source / "good").rmdir()
    (source / "cut").mkdir()
    (source / "0.png").rename(source / "cut" / "0.png")
    for layout in ("auto", "strange"):
        with pytest.raises(BadInput, match=r"labels.json is not JSON"):
            run(source, tmp_path / "dataset", layout=layout)


def test_every_source_is_the_same_to_a_reader(install: Installing, tmp_path: Path, s3: Server) -> None:
    def read(files: SourceFiles) -> Reading:
        good, cuts = (
            [files.find(name, "notes/labels.json") for name in files.json("notes/labels.json")[label]]
            for label in ("good", "cut")
        )
        return Reading(
            (
                *(Photograph(path, None, "good", "good") for path in good),
                *(Photograph(path, "test", "defect", "cut", (Box(1, 2, 3, 4),)) for path in cuts),
            )
        )

    install(reader(read))
    labels = {"good": [f"..\\images\\{number}.png" for number in range(7)], "cut": ["../images/7.png"]}
    content = {f"images/{number}.png": photograph(number) for number in range(8)}
    folder = write_files(tmp_path / "part", {**content, "notes/labels.json": json.dumps(labels).encode()})
    expected = run(folder, tmp_path / "dataset")
    assert [mask.kind for sample in expected.samples for mask in sample.masks] == ["box"]
    assert not any("left out" in note for note in expected.notes)
    sources = []
    for kind, root, base in (("zip", folder, None), ("gztar", tmp_path, "part")):
        sources.append(shutil.make_archive(str(tmp_path / kind), kind, root, base))
    bucket = new_bucket(s3)
    ObjectStore.from_environment().upload_folder(folder, Address(bucket, "line 4/part"))
    sources.append(f"s3://{bucket}/line 4/part")
    for number, source in enumerate(sources):
        again = run(source, tmp_path / f"dataset-{number}")
        assert (again.fingerprint, again.notes) == (expected.fingerprint, expected.notes)


def source_files(tmp_path: Path, **content: bytes) -> SourceFiles:
    folder = write_files(tmp_path / "source", content)
    (tmp_path / "outside.json").write_text("1")
    return SourceFiles({name: folder / name for name in content})


def test_only_files_of_the_source_are_opened(tmp_path: Path) -> None:
    seen = source_files(tmp_path, **{"a/b.json": b"\xef\xbb\xbf[1]", "a/c.png": photograph(0)})
    assert seen.json("a/b.json") == [1]
    assert seen.opened == {"a/b.json"}
    inside = seen.below("a")
    assert (inside.top, inside.json("b.json"), "c.png" in inside, "a/c.png" in inside) == ("a/", [1], True, False)
    for path in ("../outside.json", str(tmp_path / "outside.json"), "a", "", "a/../a/b.json", "a/b.json\0"):
        assert path not in seen
        with pytest.raises(BadInput, match="The source has no file"):
            seen.open(path)


def test_opening_is_bounded_and_damage_is_named(tmp_path: Path) -> None:
    seen = source_files(
        tmp_path, **{"long.json": b"1" * 99, "latin.json": b'"\xe9"', "cut.json": b"[1", "deep.json": b"[" * 200_000}
    )
    for path, most, sentence in (
        ("long.json", 98, "long.json is larger than 98 bytes"),
        ("latin.json", 99, r"latin.json is not UTF-8 \(byte 1\)"),
        ("cut.json", 99, r"cut.json is not JSON \(Expecting"),
        ("deep.json", 1 << 20, r"deep.json is not JSON \(it is nested too deeply\)"),
    ):
        with pytest.raises(BadInput, match=sentence):
            seen.json(path, most)
    assert seen.json("long.json", 99) == int("1" * 99)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("b.png", "a/b.png"),
        ("./b.png", "a/b.png"),
        ("../a/b.png", "a/b.png"),
        ("..\\c.png", "c.png"),
        ("../../c.png", "which leads out of the source"),
        ("/etc/passwd", "the absolute path '/etc/passwd'"),
        ("C:\\photos\\b.png", "the absolute path"),
        ("none.png", "and the source has no file 'a/none.png'"),
        ("", "write the path of a file"),
        (None, "write the path of a file"),
    ],
)
def test_what_an_annotation_names_is_found_inside_the_source(tmp_path: Path, name: Any, found: str) -> None:
    seen = source_files(tmp_path, **{"a/b.png": b"", "a/b.json": b"", "c.png": b""})
    if found.endswith(".png"):
        assert seen.find(name, beside="a/b.json") == found
    else:
        with pytest.raises(BadInput, match=f"a/b.json names .*{found}"):
            seen.find(name, beside="a/b.json")
