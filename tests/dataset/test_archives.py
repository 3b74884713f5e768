"""Archives that are what they say, and archives that are not."""

from __future__ import annotations

import io
import tarfile
import tempfile
import unicodedata
import zipfile
from pathlib import Path

import pytest

from vqi.dataset.archives import Limits, unpacked
from vqi.platform.errors import BadInput

FILES = {"good/a.png": b"a" * 700, "good/ü <b>.png": b"b" * 512, "scratch/deep/" + "n" * 200 + ".png": b""}


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Unpack below a folder of the test, and look that it is empty afterwards."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield
    assert list((tmp_path / "temporary").iterdir()) == []


def tar_of(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member, content in members:
            if member.isreg():
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return path


def contents(archive: Path, limits: Limits | None = None) -> dict[str, bytes]:
    with unpacked(archive, archive.name, limits) as files:
        return {name: path.read_bytes() for name, path in files.items()}


@pytest.mark.parametrize(
    ("name", "mode"), [("x.tar", "w"), ("x.tar.gz", "w:gz"), ("x.TGZ", "w:gz"), ("x.tar.xz", "w:xz"), ("x.zip", "")]
)
@pytest.mark.parametrize("top", ["", "./", "cookie/", "./cookie/"])
def test_files_come_out_as_they_went_in(tmp_path: Path, name: str, mode: str, top: str) -> None:
    named = {top + path: content for path, content in FILES.items()}
    if mode:
        folder = tarfile.TarInfo(top or "good")
        folder.type = tarfile.DIRTYPE
        archive = tar_of(
            tmp_path / name,
            [(folder, b""), *((tarfile.TarInfo(path), content) for path, content in named.items())],
            mode,
        )
    else:
        archive = zip_of(tmp_path / name, named)
    assert contents(archive) == FILES


def test_a_top_folder_with_a_meaning_stays(tmp_path: Path) -> None:
    assert contents(zip_of(tmp_path / "x.zip", {"good/a.png": b"a", "__MACOSX/good/._a.png": b""})).keys() == {
        "good/a.png",
        "__MACOSX/good/._a.png",
    }


def named_zip(path: Path, names: list[str], system: int = 3) -> Path:
    """A zip of small files whose names are written as they are; `system` is what it was packed on (0: Windows, 3: Unix,
    19: macOS)."""
    with zipfile.ZipFile(path, "w") as packed:
        for name in names:
            member = zipfile.ZipInfo("x")
            member.filename, member.create_system = name, system
            packed.writestr(member, b"a")
    return path


@pytest.mark.parametrize("system", [0, 3, 19])
def test_backslashes_in_archives_are_separators(tmp_path: Path, system: int) -> None:
    names = ["top\\good\\a.png", "top\\scratch\\b.png", "top\\empty\\"]
    assert contents(named_zip(tmp_path / "x.zip", names, system)).keys() == {"good/a.png", "scratch/b.png"}
    tar = tar_of(tmp_path / "x.tar", [(tarfile.TarInfo(name), b"a") for name in names[:2]])
    assert contents(tar).keys() == {"good/a.png", "scratch/b.png"}


def test_names_are_composed(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "good/größe é.png") for form in ("NFC", "NFD"))
    assert contents(named_zip(tmp_path / "x.zip", [decomposed])).keys() == {composed}
    assert contents(tar_of(tmp_path / "x.tar", [(tarfile.TarInfo(decomposed), b"a")])).keys() == {composed}
    with pytest.raises(BadInput, match="twice, once with composed letters"):
        contents(named_zip(tmp_path / "x.zip", [decomposed, composed]))


def test_a_macs_zip_has_utf8_names_without_the_flag(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "good/größe.png")
    archive = named_zip(tmp_path / "x.zip", [decomposed])
    data = archive.read_bytes()
    # The flag is bit 11 of the two bytes at offset 6 of a local header and 8 of a central one.
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.index(signature) + offset
        data = (
            data[:start]
            + (int.from_bytes(data[start : start + 2], "little") & ~0x800).to_bytes(2, "little")
            + data[start + 2 :]
        )
    archive.write_bytes(data)
    assert contents(archive).keys() == {"good/größe.png"}


@pytest.mark.parametrize("top", ["scratch", "NG", "masks"])
def test_a_top_folder_that_speaks_of_defects_or_masks_stays(tmp_path: Path, top: str) -> None:
    assert contents(zip_of(tmp_path / "x.zip", {f"{top}/a.png": b"a"})).keys() == {f"{top}/a.png"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("../evil.png", "leads out of it"),
        ("good/../../evil.png", "leads out of it"),
        ("/etc/evil.png", "absolute path"),
        ("C:/evil.png", "absolute path"),
        ("..", "leads out of it"),
        ("good\\..\\..\\evil.png", "leads out of it"),
        ("\\evil.png", "absolute path"),
        ("C:\\evil.png", "absolute path"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str, sentence: str) -> None:
    for archive in (
        zip_of(tmp_path / "x.zip", {"good/a.png": b"a", name: b"evil"}),
        tar_of(tmp_path / "x.tar", [(tarfile.TarInfo(name), b"evil")]),
    ):
        with pytest.raises(BadInput, match=sentence):
            contents(archive)
    assert not list(tmp_path.rglob("evil.png"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("good/a.png")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(BadInput, match=r"holds the (link|special file) 'good/a.png'"):
        contents(tar_of(tmp_path / "x.tar", [(member, b"")]))


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    member = zipfile.ZipInfo("good/a.png")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr(member, "/etc/passwd")
    with pytest.raises(BadInput, match=r"holds the link 'good/a.png'"):
        contents(tmp_path / "x.zip")


def test_bombs_are_stopped_at_the_ratio(tmp_path: Path) -> None:
    zeros = bytes(50_000_000)
    limits = Limits(harmless_bytes=1_000_000)
    archives = [
        zip_of(tmp_path / "x.zip", {"good/a.png": zeros}),
        tar_of(tmp_path / "x.tgz", [(tarfile.TarInfo("good/a.png"), zeros)], "w:gz"),
    ]
    for archive in archives:
        with pytest.raises(BadInput, match="unpacks to more than 200 times its size"):
            contents(archive, limits)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 64 << 30
    (tmp_path / "x.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(BadInput, match="has a header of"):
        contents(tmp_path / "x.tar")


def test_the_caps_on_bytes_and_files(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "x.zip", {f"{index}.png": b"x" * 1000 for index in range(10)})
    with pytest.raises(BadInput, match="unpacks to more than 5000 bytes"):
        contents(archive, Limits(most_bytes=5000))
    with pytest.raises(BadInput, match="holds more than 9 files"):
        contents(archive, Limits(most_files=9))
    assert len(contents(archive, Limits(most_files=10, most_bytes=10_000))) == 10


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"'a.png' twice"):
        contents(tar_of(tmp_path / "x.tar", [(tarfile.TarInfo("a.png"), b"1"), (tarfile.TarInfo("./a.png"), b"2")]))


@pytest.mark.parametrize(("name", "mode"), [("x.tar", "w"), ("x.tar.gz", "w:gz"), ("x.tar.xz", "w:xz"), ("x.zip", "")])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_truncated_archives_are_refused(tmp_path: Path, name: str, mode: str, share: float) -> None:
    files = {f"good/{index}.png": bytes(range(256)) * 40 for index in range(8)}
    if mode:
        archive = tar_of(tmp_path / name, [(tarfile.TarInfo(path), content) for path, content in files.items()], mode)
    else:
        archive = zip_of(tmp_path / name, files)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * share) // 512 * 512 if mode == "w" else int(len(whole) * share)])
    with pytest.raises(BadInput, match=f"The archive {name} "):
        contents(archive)


def test_a_damaged_header_is_no_end(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "x.tar", [(tarfile.TarInfo(f"{index}.png"), b"x" * 512) for index in range(4)])
    data = bytearray(archive.read_bytes())
    data[2 * 1024 + 10] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(BadInput, match="damaged or truncated"):
        contents(archive)


def test_damaged_content_in_a_zip_is_noticed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr("a.png", b"content that has a checksum")
    data = (tmp_path / "x.zip").read_bytes().replace(b"content that", b"c0ntent that")
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(BadInput, match=r"cannot be unpacked \(Bad CRC-32"):
        contents(tmp_path / "x.zip")


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tar.xz", "x.zip"])
def test_another_kind_of_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"not an archive " * 100)
    with pytest.raises(BadInput, match="damaged or of another kind"):
        contents(tmp_path / name)
