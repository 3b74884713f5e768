"""Compiled sources (.pyc) that every process finds, whatever PYTHONDONTWRITEBYTECODE says.

Where it is set, as in many containers and CI systems, packages that uv installed are never compiled, and every process
compiles torch's sources anew.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path

# What takes longest to compile; a package that is not installed does not count.
LARGE = ("torch", "torchvision", "sklearn", "mlflow", "onnx")


def keep_bytecode(packages: Iterable[str] = LARGE) -> str:
    """Let this process and those it starts keep what they compile, where the environment has nothing compiled; the
    folder it is kept in, or "".

    Nothing is done where the packages are compiled already, or where the environment names a folder of its own
    (PYTHONPYCACHEPREFIX) that may be written. The folder is the user's own cache; what anybody else could write to is
    not used.
    """
    if sys.pycache_prefix and not sys.dont_write_bytecode:
        return ""
    sources = [spec.origin for name in packages if (spec := importlib.util.find_spec(name)) and spec.origin]
    if all(Path(importlib.util.cache_from_source(source)).is_file() for source in sources):
        return ""
    folder = Path(sys.pycache_prefix or _own_cache())
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.geteuid() or folder.stat().st_mode & 0o022:
            return ""
    except OSError:
        return ""
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(folder)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    return str(folder)


def _own_cache() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("VQI_CACHE") or home / "vqi") / f"bytecode-{sys.implementation.cache_tag}"
