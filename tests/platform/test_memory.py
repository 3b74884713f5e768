from __future__ import annotations

from pathlib import Path

import pytest

from vqi.platform import memory


@pytest.mark.parametrize(
    ("limit", "used"),
    [("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")],
    ids=["v2", "v1"],
)
def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, used: str) -> None:
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    (tmp_path / limit).parent.mkdir(exist_ok=True)
    (tmp_path / limit).write_text("5000\n")
    (tmp_path / used).write_text("3000\n")
    assert memory.available_memory() == 2000
    (tmp_path / limit).write_text("max\n")
    assert memory.available_memory() > 5000
