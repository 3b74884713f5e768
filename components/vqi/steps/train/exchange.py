"""What the step and its nodes hand each other in the store, below a prefix of one TrainJob: `network/`, the result, and
`alive`, which the step renews while it waits.

A step that was killed deletes nothing, and its pod stays as long as its run's record does: nodes that no longer see it
renewed end by themselves.
"""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vqi.detectors.storage import NETWORK
from vqi.platform.errors import BadInput, RunFailed, VqiError
from vqi.platform.logs import logger
from vqi.storage.object_store import Address, ObjectStore

log = logger(__name__)

# The step says that it is there so often, seconds, and nodes that have not seen it for so long end.
RENEWED, FORGOTTEN = 60.0, 900.0
_ALIVE, _NETWORK = "alive", "network"


class Exchange:
    """The prefix of one TrainJob."""

    def __init__(self, address: str, store: ObjectStore | None = None) -> None:
        self.address = Address.parse(address)
        self.store = store or ObjectStore.from_environment()

    def _below(self, *names: str) -> Address:
        return Address(self.address.bucket, "/".join((self.address.key, *names)))

    @contextmanager
    def alive(self, every: float = RENEWED) -> Iterator[None]:
        """Say that the step is there, as long as the block runs. Raises where the store takes nothing at the start."""
        ended = threading.Event()
        self.store.write_text(self._below(_ALIVE), "0")

        def renew() -> None:
            for number in itertools.count(1):
                if ended.wait(every):
                    return
                with suppress(VqiError):  # a store that is away now: the next one is in time
                    self.store.write_text(self._below(_ALIVE), str(number))

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()

    def watch(self, forgotten: Callable[[], None], every: float = RENEWED, patience: float = FORGOTTEN) -> None:
        """Call `forgotten`, from another thread, once the step has not said for `patience` seconds that it is there.
        A store that does not answer counts for nothing."""

        def watch() -> None:
            last, since = "", time.monotonic()
            while time.monotonic() - since < patience:
                time.sleep(every)
                try:
                    seen = self.store.read_text(self._below(_ALIVE))
                except BadInput:
                    seen = last
                except RunFailed:
                    seen, since = last, time.monotonic()
                if seen != last:
                    last, since = seen, time.monotonic()
            forgotten()

        threading.Thread(target=watch, daemon=True).start()

    def send_network(self, folder: Path) -> None:
        """Store the network artefact, its record last: with it the others are there."""
        for path in sorted(folder.iterdir(), key=lambda path: path.name == NETWORK):
            self.store.upload_file(path, self._below(_NETWORK, path.name))

    def fetch_network(self, folder: Path) -> None:
        """Bring the network artefact into `folder`. Raises RunFailed where no node has stored it."""
        if self.store.find(self._below(_NETWORK, NETWORK)) is None:
            raise RunFailed(f"The nodes have ended and left no network at {self._below(_NETWORK)}; run it again.")
        fetch_folder(self.store, self._below(_NETWORK), folder)

    def remove(self) -> None:
        """Forget what was exchanged; a store that does not answer keeps it until it expires."""
        with suppress(VqiError):
            for item in self.store.objects(self.address):
                self.store.remove(Address(self.address.bucket, item.key))


def fetch_folder(store: ObjectStore, address: Address, folder: Path) -> None:
    """Bring what lies under `address` into `folder`. Raises BadInput where there is nothing."""
    cache = folder.parent / f".{folder.name}.cache"
    for name, file in store.download_prefix(address, cache).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        file.replace(folder / name)
    shutil.rmtree(cache, ignore_errors=True)
