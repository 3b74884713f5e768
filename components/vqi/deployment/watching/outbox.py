"""What was decided and not delivered to every sink yet, on disk: a decision is written here before anything else
becomes of it, and a sink's share of it goes when the sink has it.

In the same transaction a photograph is noted as decided, so that a process that is killed decides nothing twice.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vqi.platform.errors import BadInput, RunFailed

DATABASE = "outbox.sqlite"
# How long a photograph that is gone is still known as decided: a network folder may be away and come back.
KEPT_SECONDS = 30 * 86400.0

_TABLES = """
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, line TEXT NOT NULL, picture BLOB
);
CREATE TABLE IF NOT EXISTS deliveries (sink TEXT, number INTEGER, PRIMARY KEY (sink, number)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_number ON deliveries (number);
CREATE TABLE IF NOT EXISTS decided (photograph TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (sink TEXT, line TEXT NOT NULL, reason TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Pending:
    """A decision on its way to a sink: its JSON `line`, and a JPEG for sinks that keep pictures."""

    number: int
    id: str
    line: str
    picture: bytes | None = None


class Outbox:
    """The decisions of one state folder, for `sinks` by name; at most `most` wait. Threads may share it.

    Raises BadInput where the folder cannot be used, RunFailed where it cannot be written later.
    """

    def __init__(self, folder: Path, sinks: Sequence[str], most: int) -> None:
        self._folder, self._sinks, self._most = folder, tuple(sinks), most
        self._changed = threading.Condition()
        try:
            self._connection = sqlite3.connect(str(folder / DATABASE), check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            # A decision outlives a power cut too: its photograph may have been moved.
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(_TABLES)
            self._decided = {row[0] for row in self._connection.execute("SELECT photograph FROM decided")}
        except sqlite3.Error as error:
            raise BadInput(f"Decisions cannot be kept in {folder} ({error}); name another folder.") from error

    def close(self) -> None:
        with self._changed:
            self._connection.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._changed, self._connection:
                yield self._connection
                self._changed.notify_all()
        except sqlite3.Error as error:
            raise RunFailed(
                f"{self._folder / DATABASE} cannot be written ({error}); see that its disk works."
            ) from error

    def add(self, pending: Sequence[Pending], photographs: Collection[str]) -> None:
        """Keep decisions for every sink, and note their photographs (by key) as decided: all or nothing. Numbers of
        `pending` do not count."""
        now = time.time()
        with self._writing() as rows:
            for item in pending:
                number = rows.execute(
                    "INSERT INTO decisions (id, line, picture) VALUES (?, ?, ?)", (item.id, item.line, item.picture)
                ).lastrowid
                rows.executemany("INSERT INTO deliveries VALUES (?, ?)", [(sink, number) for sink in self._sinks])
            rows.executemany("INSERT OR REPLACE INTO decided VALUES (?, ?)", [(key, now) for key in photographs])
        self._decided.update(photographs)

    def next(self, sink: str, wait: float = 0) -> Pending | None:
        """The oldest decision that `sink` has not; None where there is none within `wait` seconds."""
        with self._changed:
            pending = self._oldest(sink)
            if pending is None and wait:
                self._changed.wait(wait)
                pending = self._oldest(sink)
            return pending

    def _oldest(self, sink: str) -> Pending | None:
        row = self._connection.execute(
            "SELECT number, id, line, picture FROM decisions JOIN deliveries USING (number) WHERE sink = ? "
            "ORDER BY number LIMIT 1",
            (sink,),
        ).fetchone()
        return Pending(*row) if row else None

    def confirm(self, sink: str, pending: Pending, refusal: str = "") -> None:
        """A sink has a decision; or refuses it for good, with the reason: then it is put aside."""
        with self._writing() as rows:
            if refusal:
                rows.execute("INSERT INTO refused VALUES (?, ?, ?)", (sink, pending.line, refusal))
            rows.execute("DELETE FROM deliveries WHERE sink = ? AND number = ?", (sink, pending.number))
            rows.execute(
                "DELETE FROM decisions WHERE number = ? AND NOT EXISTS (SELECT 1 FROM deliveries WHERE number = ?)",
                (pending.number, pending.number),
            )

    def waiting(self) -> dict[str, int]:
        """How many decisions wait for each sink; those of earlier starts stand behind."""
        with self._changed:
            counts = dict(self._connection.execute("SELECT sink, COUNT(*) FROM deliveries GROUP BY sink").fetchall())
        return {**dict.fromkeys(self._sinks, 0), **counts}

    def room(self) -> int:
        """How many more decisions are taken."""
        waiting = self.waiting()
        return self._most - max((waiting[sink] for sink in self._sinks), default=0)

    def is_decided(self, photograph: str) -> bool:
        return photograph in self._decided

    def forget(self, photographs: Collection[str]) -> None:
        """Photographs that are gone need not be known any more."""
        with self._writing() as rows:
            rows.executemany("DELETE FROM decided WHERE photograph = ?", [(key,) for key in photographs])
        self._decided.difference_update(photographs)

    def prune(self, present: Collection[str]) -> None:
        """Forget what was decided long ago and is not `present` any more."""
        with self._changed:
            old = self._connection.execute(
                "SELECT photograph FROM decided WHERE at < ?", (time.time() - KEPT_SECONDS,)
            ).fetchall()
        if gone := {row[0] for row in old}.difference(present):
            self.forget(gone)
