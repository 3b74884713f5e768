"""Where what was brought from elsewhere is kept between runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def cache_folder(name: str) -> Iterator[Path]:
    """The folder `name` of VQI_CACHE, else of the user's cache folder; a passing one where that cannot be written."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ["VQI_CACHE"]) if os.environ.get("VQI_CACHE") else home / "vqi"
    folder = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if writable:
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix=f"vqi-{name}-") as passing:
            yield Path(passing)
