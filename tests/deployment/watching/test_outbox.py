"""What is kept until every sink has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vqi.deployment.watching import outbox as module
from vqi.deployment.watching.outbox import Outbox, Pending
from vqi.platform.errors import BadInput


def rows(outbox: Outbox) -> list[str]:
    return [row[0] for row in outbox._connection.execute("SELECT id FROM decisions ORDER BY number")]


def test_a_decision_stays_until_every_sink_has_it(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, ["a", "b"], 3)
    outbox.add([Pending(0, "1", "{1}", b"jpeg"), Pending(0, "2", "{2}")], ["x"])
    first = outbox.next("a")
    assert first == Pending(1, "1", "{1}", b"jpeg")
    outbox.confirm("a", first)
    assert (rows(outbox), outbox.waiting(), outbox.room()) == (["1", "2"], {"a": 1, "b": 2}, 1)
    outbox.close()

    outbox = Outbox(tmp_path, ["a", "b"], 3)
    assert outbox.is_decided("x")
    assert outbox.next("a").id == "2"
    assert outbox.next("b") == first
    outbox.confirm("b", first, "status 400")
    assert (rows(outbox), outbox.waiting()) == (["2"], {"a": 1, "b": 1})
    assert outbox._connection.execute("SELECT * FROM refused").fetchall() == [("b", "{1}", "status 400")]


def test_what_waits_for_a_sink_that_is_not_named_any_more_is_kept_and_takes_no_room(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, ["a"], 1)
    outbox.add([Pending(0, "1", "{}")], [])
    outbox.close()
    outbox = Outbox(tmp_path, ["b"], 1)
    assert (outbox.waiting(), outbox.room(), outbox.next("b", 0.01)) == ({"a": 1, "b": 0}, 1, None)


def test_a_decision_and_its_photograph_are_kept_together_or_not_at_all(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, ["a"], 9)
    with pytest.raises(module.RunFailed, match="cannot be written"):
        outbox.add([Pending(0, "1", "{}"), Pending(0, "1", "{}")], ["x"])
    assert (rows(outbox), outbox.waiting(), outbox.is_decided("x")) == ([], {"a": 0}, False)


def test_photographs_that_are_long_gone_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox(tmp_path, [], 9)
    outbox.add([], ["here", "gone"])
    outbox.prune({"here"})
    assert outbox.is_decided("gone")
    monkeypatch.setattr(module, "KEPT_SECONDS", -1)
    outbox.prune({"here"})
    assert (outbox.is_decided("here"), outbox.is_decided("gone")) == (True, False)


def test_a_damaged_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / module.DATABASE).write_bytes(b"no database" * 1000)
    with pytest.raises(BadInput, match="cannot be kept"):
        Outbox(tmp_path, [], 1)
