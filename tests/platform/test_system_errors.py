"""What the operating system refuses, as one sentence, and files that appear whole or not at all where it does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.files import check_writable, locked, whole_folder, write_whole
from vqi.platform.system_errors import system_error


@pytest.mark.parametrize(
    ("number", "kind", "sentence"),
    [
        ("ENOSPC", RunFailed, "/runs/a cannot be written: the disk is full; free space"),
        ("EDQUOT", RunFailed, "/runs/a cannot be written: the quota of this user is used up"),
        (
            "EMFILE",
            RunFailed,
            r"Too many files are open \(/runs/a could not be opened\); raise the limit \(ulimit -n\)",
        ),
        ("EIO", RunFailed, r"/runs/a cannot be read or written \(Input/output error\); see that its disk"),
        ("EROFS", BadInput, "/runs/a is on a read-only file system; name a folder"),
        ("EACCES", BadInput, "/runs/a may not be opened or written by this user; change its rights"),
        ("ENOTDIR", BadInput, "/runs/a lies below a file"),
        ("ENOENT", BadInput, "/runs/a does not exist"),
        ("ENAMETOOLONG", BadInput, "/runs/a has a longer name"),
    ],
)
def test_what_is_wrong_where_and_what_to_do(number: str, kind: type[Exception], sentence: str) -> None:
    code = getattr(errno, number)
    error = system_error(OSError(code, os.strerror(code), "/runs/a"))
    assert type(error) is kind
    with pytest.raises(kind, match=sentence):
        raise error


def test_errors_without_a_file() -> None:
    assert os.getcwd() in str(system_error(OSError(errno.ENOSPC, "No space left on device")))
    assert "Connection refused" in str(system_error(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")))
    assert "two lines" in str(system_error(OSError("two lines\nof text")))
    assert "\n" not in str(system_error(OSError("two lines\nof text")))


def test_a_write_that_fails_names_its_file_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError) as caught:
        write_whole(tmp_path / "file" / "deep" / "new", "x")
    assert caught.value.filename == str(tmp_path / "file" / "deep" / "new")
    with pytest.raises(OSError, match="space") as full, whole_folder(tmp_path / "deep" / "deeper" / "folder"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert full.value.filename == str(tmp_path / "deep" / "deeper" / "folder")
    with pytest.raises(ConnectionRefusedError) as away, whole_folder(tmp_path / "folder"):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    assert away.value.filename is None
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


def test_whether_something_can_be_written_is_tried_and_undone(tmp_path: Path) -> None:
    check_writable(tmp_path / "deep" / "teacher")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError):
        check_writable(tmp_path / "file" / "teacher")
    with pytest.raises(IsADirectoryError):
        check_writable(tmp_path)


def test_a_file_that_outgrows_its_limit(tmp_path: Path) -> None:
    """A limit of the process stands for a full disk: the kernel refuses the write in the same way."""
    program = f"""
import resource, signal
from pathlib import Path
from vqi.platform.files import write_whole
from vqi.platform.system_errors import system_error
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_whole(Path({str(tmp_path / "deep" / "file")!r}), b"x" * 2000)
except OSError as error:
    print(system_error(error))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.startswith(f"{tmp_path / 'deep' / 'file'} cannot be written: it is larger than")
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time_holds_a_lock(tmp_path: Path) -> None:
    """Each of many processes reads a number and writes the next one: without the lock some would write the same."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    program = f"""
import time
from pathlib import Path
from vqi.platform.files import locked
counter = Path({str(counter)!r})
for _ in range(5):
    with locked(counter.with_name(".lock"), 60, "the counter"):
        number = int(counter.read_text())
        time.sleep(0.002)
        counter.write_text(str(number + 1))
"""
    running = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(12)]
    assert [process.wait(120) for process in running] == [0] * 12
    assert counter.read_text() == "60"


def test_a_held_lock_is_reported_and_free_again(tmp_path: Path) -> None:
    with locked(tmp_path / ".lock", 1, "the database"):
        second = locked(tmp_path / ".lock", 0.1, "the database")
        with pytest.raises(RunFailed, match="the database is held by another process"):
            second.__enter__()
    with locked(tmp_path / ".lock", 0, "the database"):
        pass
