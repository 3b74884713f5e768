"""A folder that files appear in."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vqi.dataset.images import SUFFIXES
from vqi.deployment.watching.outbox import Outbox
from vqi.deployment.watching.settings import WatchSettings
from vqi.deployment.watching.sources import Photograph
from vqi.platform.errors import BadInput
from vqi.platform.logs import logger

log = logger(__name__)

# Names of files that are being written.
PARTIAL = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart")
# A file that cannot be read may be one whose writer paused: it is left alone for so many times the settling time.
PATIENCE = 10
# A long search of a large folder is repeated after so many times its own duration.
REST = 5.0
RETRY_MOVE_SECONDS = 30.0
PRUNE_SECONDS = 3600.0
# Names of files that were passed over, each said once.
MOST_NAMES = 1000


@dataclass(frozen=True)
class Sighting:
    """A file as it was when it last changed: its key (name, size, time of change), and since when, by a clock of this
    process: that of a network folder may differ."""

    key: str
    since: float
    whole: bool


class FolderSource:
    """Photographs in `folder` itself, not in folders below it, by name.

    A file is whole where its size and time have not changed for the settling time, or where it was seen under the name
    of a partial file and got its own by renaming; one that cannot be read is left alone for ten times as long. Hidden
    and partial names are passed over. Raises BadInput where a folder cannot be used.
    """

    waits = True

    def __init__(self, folder: Path, settings: WatchSettings, outbox: Outbox) -> None:
        self._folder, self._outbox, self._settle = folder, outbox, settings.settle_seconds
        self._done = Path(os.path.abspath(settings.done)) if settings.done else None
        self.label, self.pause, self._once = str(folder), settings.poll_seconds, settings.once
        if not folder.is_dir():
            raise BadInput(f"{folder} is not a folder; name the folder that photographs appear in.")
        if self._done:
            self._done.mkdir(parents=True, exist_ok=True)
            if self._done.samefile(folder):
                raise BadInput(f"Decided photographs cannot be moved to {self._done}, where they come from.")
        self._sightings: dict[str, Sighting] = {}
        self._partial: set[int] = set()
        self._ready: list[Photograph] = []
        self._in_hand: set[str] = set()
        self._unreadable: set[str] = set()
        self._passed_over: set[str] = set()
        self._settling = True
        self._next_scan = self._next_prune = 0.0
        self._next_move: dict[str, float] = {}
        self._away = False

    @property
    def ended(self) -> bool:
        return self._once and not (self._settling or self._ready or self._in_hand)

    def close(self) -> None: ...

    def take(self, most: int) -> list[Photograph]:
        now = time.monotonic()
        if now >= self._next_scan:
            self._scan(now)
            self._next_scan = now + max(self.pause, REST * (time.monotonic() - now))
        taken, self._ready = self._ready[:most], self._ready[most:]
        self._in_hand.update(photograph.name for photograph in taken)
        return taken

    def is_unchanged(self, photograph: Photograph) -> bool:
        try:
            return _key(photograph.name, os.stat(self._folder / photograph.name)) == photograph.key
        except FileNotFoundError:
            return False
        except OSError:  # of a file that cannot be looked at, that is what is decided
            return True

    def may_grow(self, photograph: Photograph) -> bool:
        sighting = self._sightings.get(photograph.name)
        if sighting is None or sighting.whole or time.monotonic() - sighting.since >= PATIENCE * self._settle:
            return False
        self._unreadable.add(photograph.key)
        return True

    def release(self, photographs: Sequence[Photograph]) -> None:
        self._in_hand.difference_update(photograph.name for photograph in photographs)
        self._settling = True

    def finish(self, photographs: Sequence[Photograph]) -> None:
        if self._done:
            self._outbox.forget([photograph.key for photograph in photographs if self._move(photograph)])
        self._in_hand.difference_update(photograph.name for photograph in photographs)

    def _scan(self, now: float) -> None:
        sightings: dict[str, Sighting] = {}
        partial: set[int] = set()
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if is_partial(entry.name):
                        partial.add(entry.inode())
                    elif sighting := self._sight(entry, now):
                        sightings[entry.name] = sighting
        except OSError as error:
            if not self._away:
                log.warning(f"{self._folder} cannot be read ({error.strerror}); it is tried again until it can.")
            self._away = True
            return
        if self._away:
            log.warning(f"{self._folder} can be read again.")
        self._away = False
        self._sightings, self._partial = sightings, partial
        undecided = {name: each for name, each in sightings.items() if not self._outbox.is_decided(each.key)}
        whole = sorted(
            name
            for name, each in undecided.items()
            if name not in self._in_hand and (each.whole or now - each.since >= self._wait(each.key))
        )
        at = time.time()
        self._ready = [Photograph(name, self._folder / name, at, undecided[name].key) for name in whole]
        self._settling = len(undecided) > len(whole) + len(self._in_hand & undecided.keys())
        if self._done:
            for name in sightings.keys() - undecided.keys() - self._in_hand:
                self._move_later(Photograph(name, self._folder / name, at, sightings[name].key), now)
        self._unreadable &= {each.key for each in undecided.values()}
        if now >= self._next_prune:
            self._outbox.prune({each.key for each in sightings.values()})
            self._next_prune = now + PRUNE_SECONDS

    def _wait(self, key: str) -> float:
        return self._settle * (PATIENCE if key in self._unreadable else 1)

    def _sight(self, entry: os.DirEntry[str], now: float) -> Sighting | None:
        if not entry.name.lower().endswith(SUFFIXES):
            if entry.name not in self._passed_over and len(self._passed_over) < MOST_NAMES and entry.is_file():
                self._passed_over.add(entry.name)
                log.info(f"{entry.path} is passed over: its name does not end like a photograph's.")
            return None
        try:
            if not entry.is_file():
                return None
            key = _key(entry.name, entry.stat())
        except OSError:  # gone meanwhile
            return None
        before = self._sightings.get(entry.name)
        if before and before.key == key:
            return before
        return Sighting(key, now, before is None and entry.inode() in self._partial)

    def _move_later(self, photograph: Photograph, now: float) -> None:
        """Move what was decided and is still here: this process was killed, or moving failed."""
        if now < self._next_move.get(photograph.name, 0.0):
            return
        if self._move(photograph):
            self._next_move.pop(photograph.name, None)
            self._outbox.forget([photograph.key])

    def _move(self, photograph: Photograph) -> bool:
        """Whether a decided file is gone from here; one that was replaced meanwhile stays and is decided on."""
        assert self._done
        if not self.is_unchanged(photograph):
            return True
        origin, target = self._folder / photograph.name, self._done / photograph.name
        if os.path.lexists(target):
            target = target.with_name(f"{target.stem}-{time.time_ns()}{target.suffix}")
        try:
            _rename(origin, target)
        except OSError as error:
            log.warning(
                f"{origin} was decided and cannot be moved to {self._done} ({error.strerror}); it stays, and is tried "
                f"again in {RETRY_MOVE_SECONDS:.0f} s."
            )
            self._next_move[photograph.name] = time.monotonic() + RETRY_MOVE_SECONDS
            return False
        return True


def is_partial(name: str) -> bool:
    """Whether a name is that of a hidden file or of one that is being written."""
    return name.startswith((".", "~")) or name.lower().endswith(PARTIAL)


def _key(name: str, stat: os.stat_result) -> str:
    """What knows a file: its name, size and time of change."""
    return hashlib.sha256(os.fsencode(f"{name}/{stat.st_size}/{stat.st_mtime_ns}")).hexdigest()[:32]


def _rename(origin: Path, target: Path) -> None:
    """Move a file, whole, to another file system too."""
    try:
        os.rename(origin, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        partial = target.with_name(f".{target.name}.part")
        shutil.copy2(origin, partial)
        os.replace(partial, target)
        origin.unlink()
