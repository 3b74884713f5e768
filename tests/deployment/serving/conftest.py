from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving_server import Running, png, running
from toy_bundle import photograph


@pytest.fixture(scope="session")
def good() -> bytes:
    return png(photograph(99))


@pytest.fixture(scope="session")
def defect() -> bytes:
    return png(photograph(99, defect=True))


@pytest.fixture(scope="module")
def server(toy_bundle: Path) -> Iterator[Running]:
    with running({"plates": toy_bundle}, grpc_port=0) as started:
        yield started
