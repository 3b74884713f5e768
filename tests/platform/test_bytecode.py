"""What every process of ours has before torch loads: threads that sleep while they wait, and compiled sources to
read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KEEP = (
    "import sys; from vqi.platform.bytecode import keep_bytecode; print(keep_bytecode(['large'])); import large; "
    "print(sys.pycache_prefix or '')"
)


def python(program: str, folder: Path, **variables: str) -> list[str]:
    unset = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "VQI_CACHE", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path]), **variables}
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    ).stdout.split("\n")


@pytest.fixture
def large(tmp_path: Path) -> Path:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "large.py").write_text("VALUE = 1\n")
    return tmp_path / "packages"


def test_sources_are_compiled_once_in_the_user_s_own_cache(large: Path, tmp_path: Path) -> None:
    variables = {"PYTHONDONTWRITEBYTECODE": "1", "VQI_CACHE": str(tmp_path / "cache")}
    for _ in range(2):
        kept, prefix, *_ = python(KEEP, large, **variables)
        assert kept == prefix
        assert kept.startswith(str(tmp_path / "cache" / "bytecode-"))
    (compiled,) = (tmp_path / "cache").rglob("large.*.pyc")
    assert compiled.is_file()
    assert [path.name for path in large.iterdir()] == ["large.py"]


def test_compiled_packages_are_left_as_they_are(large: Path, tmp_path: Path) -> None:
    python("import large", large)
    assert (large / "__pycache__").is_dir()
    assert python(KEEP, large, PYTHONDONTWRITEBYTECODE="1", VQI_CACHE=str(tmp_path / "cache"))[:2] == ["", ""]
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_others_may_write_is_not_used(large: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / f"bytecode-{sys.implementation.cache_tag}"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert python(KEEP, large, PYTHONDONTWRITEBYTECODE="1", VQI_CACHE=str(tmp_path / "cache"))[:2] == ["", ""]


@pytest.mark.parametrize("own", ["", "active"])
def test_threads_sleep_while_they_wait_unless_the_user_sets_otherwise(own: str, tmp_path: Path) -> None:
    variables = {"OMP_WAIT_POLICY": own} if own else {}
    program = "import vqi.deployment.predictor, os; print(os.environ['OMP_WAIT_POLICY'])"
    assert python(program, tmp_path, **variables)[0] == (own or "passive")
