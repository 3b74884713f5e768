"""Every test here takes the native program, and is slow: it may have to be brought up to date first."""

from __future__ import annotations

from pathlib import Path

import pytest

from native_program import built

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def native() -> Path:
    """The folder of the programs."""
    return built()
