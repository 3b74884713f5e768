"""Whatever an archive holds: it is unpacked inside, whole, and cleared away, or refused in one sentence."""

from __future__ import annotations

import io
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vqi.dataset.archives import Limits, checked_name, unpacked
from vqi.platform.errors import BadInput

PARTS = st.sampled_from(
    [
        *("a", "b", "good", "scratch", "masks", "", ".", "..", "...", "~", "C:", "c:x", "CON", "ü", "u\u0308", "\\"),
        *("..\\x", " ", "-rf", "\0", "a\0b", "\n", "\x1b[31m", "n" * 300, "__MACOSX", ".hidden"),
    ]
) | st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
NAMES = st.lists(PARTS, min_size=1, max_size=5).map("/".join)
MEMBERS = st.lists(st.tuples(NAMES, st.binary(max_size=20)), max_size=6)
FOLDERS = ("tar", "tar.gz", "tar.xz", "zip")
LIMITS = Limits(most_files=100, most_bytes=1 << 20, harmless_bytes=1 << 20)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archives")


@contextmanager
def own_folder(base: Path) -> Iterator[tuple[Path, Path]]:
    """A folder for the archive, and one inside that temporary files go to; nothing else may be written."""
    with tempfile.TemporaryDirectory(dir=base) as made:
        folder, before = Path(made), tempfile.tempdir
        (folder / "temporary").mkdir()
        tempfile.tempdir = str(folder / "temporary")
        try:
            yield folder, folder / "temporary"
        finally:
            tempfile.tempdir = before


def unpack(base: Path, name: str, data: bytes) -> dict[str, bytes] | None:
    """What an archive holds, None where it was refused; either way inside its folder, and nothing is left behind."""
    with own_folder(base) as (folder, temporary):
        archive = folder / name
        archive.write_bytes(data)
        files, refusal = None, "."
        try:
            with unpacked(archive, name, LIMITS) as paths:
                written = {path for path in folder.rglob("*") if path.is_file()} - {archive}
                assert written == set(paths.values())
                assert all(path.resolve().is_relative_to(temporary.resolve()) for path in written)
                files = {path: file.read_bytes() for path, file in paths.items()}
        except BadInput as error:
            refusal = str(error)
        assert refusal.endswith(".")
        assert "\n" not in refusal
        assert sorted(folder.iterdir()) == sorted([archive, temporary])
        assert list(temporary.iterdir()) == []
    for path in files or ():
        assert not path.startswith("/")
        assert not set(path.split("/")) & {"", ".", ".."}
    return files


def packed(kind: str, members: list[tuple[str, bytes]]) -> bytes:
    """The bytes of an archive whose names are written as they are."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in members:
                member = zipfile.ZipInfo("x")
                member.filename = name
                archive.writestr(member, content)
    else:
        mode = "w:" + kind.removeprefix("tar").removeprefix(".")
        with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
            for name, content in members:
                header = tarfile.TarInfo(name)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", FOLDERS)
@given(MEMBERS)
def test_any_names_are_unpacked_whole_or_refused(base: Path, kind: str, members: list[tuple[str, bytes]]) -> None:
    files = unpack(base, f"x.{kind}", packed(kind, members))
    if files is not None:
        # A zip's folder is a name that ends with a slash, and zipfile ends names at a NUL.
        folders = [kind == "zip" and name.split("\0")[0].endswith(("/", "\\")) for name, _ in members]
        kept = [content for (_, content), folder in zip(members, folders, strict=True) if not folder]
        assert sorted(files.values()) == sorted(kept)


@given(st.text(max_size=30) | NAMES)
@example("./C:/a.png")
def test_a_checked_name_is_a_plain_path_and_stays_one(name: str) -> None:
    try:
        path = checked_name(name, "The archive")
    except BadInput:
        return
    assert checked_name(path, "The archive") == path
    assert not path.startswith("/")
    assert not set(path.split("/")) & {"", ".", ".."}
    assert Path("/inside", path).parts[:2] == ("/", "inside")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", FOLDERS)
@given(
    members=st.lists(st.tuples(st.sampled_from(["good/a.png", "good/b.png", "ü.png"]), st.binary(max_size=600))),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.none() | st.floats(0, 1),
)
# Where the directory of a zip begins is one of the last bytes: before the file.
@example(members=[("good/a.png", b"")], changes=[(0.96875, 1)], cut=None)
def test_damaged_bytes_are_never_more_than_a_refusal(
    base: Path, kind: str, members: list[tuple[str, bytes]], changes: list[tuple[float, int]], cut: float | None
) -> None:
    data = bytearray(packed(kind, members))
    for position, value in changes:
        data[int(position * len(data))] = value
    unpack(base, f"x.{kind}", bytes(data if cut is None else data[: int(cut * len(data))]))


@pytest.mark.parametrize("kind", FOLDERS)
@given(st.binary(max_size=2000))
@example(b"")
def test_bytes_that_are_no_archive_are_refused(base: Path, kind: str, data: bytes) -> None:
    assert not unpack(base, f"x.{kind}", data)
