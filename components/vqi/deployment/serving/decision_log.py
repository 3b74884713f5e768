"""What a server decided: every decision as a row, the photographs of the last ones, and what people say of them.

Marks are the beginning of the next training: a decision that a person calls right or wrong keeps its photograph, and
all such are exported as a table that the front door reads (vqi.dataset.layouts.table).
"""

from __future__ import annotations

import csv
import hashlib
import io
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from vqi.deployment.predictor import Prediction, Unreadable
from vqi.deployment.serving.refusals import NotServed, Refusal
from vqi.deployment.sidecar import Sidecar
from vqi.evaluation.pictures import Box
from vqi.platform.errors import BadInput
from vqi.platform.files import write_whole

Mark = Literal["right", "wrong"]
DATABASE, PHOTOGRAPHS = "decisions.sqlite", "photographs"
RECENT = 100
RECENT_BYTES = 64 << 20
# Of a map that is kept for a picture.
LARGEST_MAP_SIDE = 256
KEPT_SECONDS = 30 * 86400.0
LONGEST_NAME = 200
LONGEST_NOTE = 2000
HOUR = 3600
OPPOSITE = {"good": "defect", "defect": "good"}

_TABLE = """
CREATE TABLE IF NOT EXISTS decisions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    image TEXT NOT NULL,
    decision TEXT NOT NULL,
    score REAL,
    threshold REAL,
    seconds REAL NOT NULL,
    reason TEXT NOT NULL,
    mark TEXT,
    note TEXT NOT NULL DEFAULT '',
    photograph TEXT NOT NULL DEFAULT ''
)
"""
_INDEX = "CREATE INDEX IF NOT EXISTS by_time ON decisions (at)"


@dataclass(frozen=True)
class RecentPhotograph:
    """What a picture of a recent decision is drawn from: the file as it was sent, and the map, made small."""

    content: bytes
    name: str
    map: np.ndarray
    boxes: list[Box]
    level: float
    sidecar: Sidecar


class DecisionLog:
    """Rows in `folder` (kept when the server ends), or in memory where it is None. Threads may share it.

    Raises BadInput where the folder cannot be used.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        try:
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
            database = str(folder / DATABASE) if folder else ":memory:"
            self._connection = sqlite3.connect(database, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(_TABLE)
            self._connection.execute(_INDEX)
            self._connection.commit()
        except (OSError, sqlite3.Error) as error:
            raise BadInput(f"Decisions cannot be kept in {folder} ({error}); name another folder.") from error
        self._lock = threading.Lock()
        self._recent: OrderedDict[int, RecentPhotograph] = OrderedDict()
        self._recent_bytes = 0
        self._pruned = 0.0

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._connection:
            yield self._connection

    def add(
        self, model: str, version: str, sidecar: Sidecar, result: Prediction | Unreadable, content: bytes | None
    ) -> int:
        """Keep a decision; its number. `content` is the file as it was sent, None for a frame without one."""
        values: tuple[str, str, float | None, float | None, float, str]
        if isinstance(result, Unreadable):
            values = (result.name[:LONGEST_NAME], "unreadable", None, None, 0.0, result.reason)
        else:
            values = (
                result.name[:LONGEST_NAME],
                result.decision,
                result.score,
                sidecar.thresholds.image,
                result.seconds,
                result.implausible,
            )
        now = time.time()
        with self._writing() as rows:
            if now - self._pruned > HOUR:
                rows.execute("DELETE FROM decisions WHERE at < ? AND mark IS NULL", (now - KEPT_SECONDS,))
                self._pruned = now
            number = rows.execute(
                "INSERT INTO decisions (at, model, version, image, decision, score, threshold, seconds, reason) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (now, model, version, *values),
            ).lastrowid
            assert number is not None
            if content is not None and isinstance(result, Prediction):
                self._recent[number] = _recent(result, content, sidecar)
                self._recent_bytes += len(content)
                while len(self._recent) > RECENT or self._recent_bytes > RECENT_BYTES:
                    self._recent_bytes -= len(self._recent.popitem(last=False)[1].content)
        return number

    def latest(self, limit: int = RECENT, after: int = 0) -> list[dict[str, Any]]:
        """The newest decisions first, at most `limit`, with numbers above `after`; `picture` says whether one can be
        drawn."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT * FROM decisions WHERE id > ? ORDER BY id DESC LIMIT ?", (after, limit)
            ).fetchall()
            return [{**dict(row), "picture": row["id"] in self._recent} for row in rows]

    def hours(self, last: int = 24) -> list[dict[str, Any]]:
        """Decisions by hour (seconds since 1970, where the hour begins) and kind, of the last hours, oldest first."""
        with self._lock:
            rows = self._connection.execute(
                f"SELECT CAST(at / {HOUR} AS INTEGER) * {HOUR} AS hour, decision, COUNT(*) AS number FROM decisions "
                "WHERE at > ? GROUP BY hour, decision ORDER BY hour",
                (time.time() - last * HOUR,),
            ).fetchall()
        return [dict(row) for row in rows]

    def recent(self, number: int) -> RecentPhotograph:
        """What the picture of a decision is drawn from. Raises NotServed where it is not kept any more."""
        with self._lock:
            if number not in self._recent:
                raise NotServed(f"The photograph of decision {number} is not kept; the last {RECENT} are.")
            return self._recent[number]

    def mark(self, number: int, mark: Mark | None, note: str = "") -> dict[str, Any]:
        """Say whether a decision was right, or take that back (None). Its photograph is kept where there is a folder.

        Raises NotServed for an unknown decision, Refusal for a note that is too long or a decision that is neither good
        nor defect.
        """
        if mark is not None and mark not in get_args(Mark):
            raise Refusal("A mark is right or wrong.")
        if len(note) > LONGEST_NOTE:
            raise Refusal(f"A note has at most {LONGEST_NOTE} characters.")
        with self._writing() as rows:
            row = rows.execute("SELECT * FROM decisions WHERE id = ?", (number,)).fetchone()
            if row is None:
                raise NotServed(f"Decision {number} does not exist.")
            if mark and row["decision"] not in OPPOSITE:
                raise Refusal(f"Decision {number} is {row['decision']}; only good and defect can be right or wrong.")
            photograph = row["photograph"]
            if mark and not photograph and self._folder and number in self._recent:
                photograph = self._keep(self._recent[number])
            rows.execute(
                "UPDATE decisions SET mark = ?, note = ?, photograph = ? WHERE id = ?", (mark, note, photograph, number)
            )
        return {"id": number, "mark": mark, "note": note, "photograph": photograph}

    def _keep(self, recent: RecentPhotograph) -> str:
        """Write a photograph below the folder; its path there. Content names it, so that none is kept twice."""
        assert self._folder
        suffix = _suffix(recent.content)
        path = Path(PHOTOGRAPHS) / f"{hashlib.sha256(recent.content).hexdigest()[:24]}{suffix}"
        if not (self._folder / path).exists():
            write_whole(self._folder / path, recent.content)
        return path.as_posix()

    def marked_table(self) -> str:
        """The marked decisions whose photographs are kept, as a table for the front door: `label` is what the part was,
        by the person's word."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT * FROM decisions WHERE mark IS NOT NULL AND photograph != '' ORDER BY id"
            ).fetchall()
        # The last word on a photograph counts.
        last = {row["photograph"]: row for row in rows}
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("path", "label", "split", "decided", "score", "note"))
        for photograph, row in last.items():
            label = row["decision"] if row["mark"] == "right" else OPPOSITE[row["decision"]]
            table.writerow((photograph, label, "", row["decision"], row["score"], _cell(row["note"])))
        return text.getvalue()


def _cell(text: str) -> str:
    """Text that a spreadsheet would run as a formula begins with an apostrophe."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _recent(result: Prediction, content: bytes, sidecar: Sidecar) -> RecentPhotograph:
    step = max(1, -(-max(result.map.shape) // LARGEST_MAP_SIDE))
    return RecentPhotograph(
        content, result.name, result.map[::step, ::step].astype(np.float16), result.boxes, result.level, sidecar
    )


def _suffix(content: bytes) -> str:
    """How the name of a photograph ends, by how it begins."""
    for start, suffix in ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"BM", ".bmp"), (b"RIFF", ".webp")):
        if content.startswith(start):
            return suffix
    if content[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"):
        return ".pnm"
    return ".tif" if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") else ".png"
