"""A folder: `decisions.jsonl`, and pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from vqi.deployment.watching.outbox import Pending
from vqi.deployment.watching.sinks import SinkAway
from vqi.platform.files import write_whole

LINES, PICTURES = "decisions.jsonl", "pictures"
# More than any line holds.
TAIL_BYTES = 16 << 20


class FolderSink:
    """Adds lines to `folder`/decisions.jsonl, which is put aside under the time once it has `rotate` bytes.

    A line that was written before this process was killed, and not confirmed, is the last one there: it is not written
    twice, and half a line is cut off. Raises OSError where the folder cannot be written.
    """

    def __init__(self, folder: Path, rotate: int) -> None:
        self.name, self._folder, self._rotate = str(folder), folder, rotate
        folder.mkdir(parents=True, exist_ok=True)
        self._lines = folder / LINES
        self._last = self._mend()

    def deliver(self, pending: Pending) -> None:
        if not self._folder.is_dir():
            raise SinkAway("the folder is gone")
        if pending.id == self._last:
            return
        value = json.loads(pending.line)
        if pending.picture:
            picture = Path(PICTURES) / value["time"][:10] / f"{value['decision']}-{pending.id}.jpg"
            write_whole(self._folder / picture, pending.picture)
            value["picture"] = picture.as_posix()
        self._append(json.dumps(value).encode() + b"\n")
        self._last = pending.id

    def announce(self, state: Mapping[str, object]) -> None: ...

    def close(self) -> None: ...

    def _append(self, line: bytes) -> None:
        with open(self._lines, "ab") as file:
            size = file.tell()
        if size and size + len(line) > self._rotate:
            now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            os.rename(self._lines, self._lines.with_name(f"decisions-{now}.jsonl"))
            size = 0
        try:
            with open(self._lines, "ab", buffering=0) as file:
                if file.write(line) != len(line):
                    raise OSError("the disk is full")
                os.fsync(file.fileno())
        except OSError:
            os.truncate(self._lines, size)
            raise

    def _mend(self) -> str:
        """Cut off half a line at the end; the id of the last whole one, "" where there is none."""
        if not self._lines.exists():
            return ""
        with open(self._lines, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - TAIL_BYTES)
            file.seek(start)
            tail = file.read()
            whole = tail.rfind(b"\n") + 1
            if whole < len(tail):
                file.truncate(start + whole)
        last = tail[:whole].splitlines()
        try:
            return str(json.loads(last[-1])["id"]) if last else ""
        except (ValueError, KeyError, TypeError):
            return ""
