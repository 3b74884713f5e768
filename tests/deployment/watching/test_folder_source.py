"""The folder that photographs appear in: whole files, each once, in order."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from line import appear, decisions, wait_until
from vqi.deployment.watching.outbox import Outbox, Pending
from vqi.deployment.watching.settings import WatchSettings
from vqi.deployment.watching.sources.folder import FolderSource
from vqi.platform.errors import BadInput


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    (tmp_path / "kept").mkdir()
    return Outbox(tmp_path / "kept", ["a"], 10)


def open_folder(folder: Path, outbox: Outbox, **settings: object) -> FolderSource:
    folder.mkdir(exist_ok=True)
    return FolderSource(folder, WatchSettings(**{"poll_seconds": 1e-9, "settle_seconds": 0, **settings}), outbox)


def take(source: FolderSource) -> list[str]:
    source._next_scan = 0
    return [photograph.name for photograph in source.take(10)]


def test_photographs_come_by_name_and_others_are_passed_over(tmp_path: Path, outbox: Outbox) -> None:
    folder = tmp_path / "in"
    for name in ("b.png", "a.PNG", ".hidden.png", "c.png.part", "d.tmp", "notes.txt", "~e.png"):
        appear(folder, "x.png").rename(folder / name)
    (folder / "below.png").mkdir()
    source = open_folder(folder, outbox)
    assert take(source) == ["a.PNG", "b.png"]
    assert take(source) == []


def test_a_file_is_taken_once_it_stops_changing(tmp_path: Path, outbox: Outbox) -> None:
    source = open_folder(tmp_path / "in", outbox, settle_seconds=0.2)
    path = tmp_path / "in" / "a.png"
    for content in (b"1", b"12", b"123"):
        path.write_bytes(content)
        assert take(source) == []
        assert source._sightings["a.png"].since == max(each.since for each in source._sightings.values())
    source._settle = 0
    assert take(source) == ["a.png"]


def test_a_file_that_is_renamed_in_is_taken_at_once(tmp_path: Path, outbox: Outbox) -> None:
    source = open_folder(tmp_path / "in", outbox, settle_seconds=3600)
    partial = tmp_path / "in" / "a.png.part"
    partial.write_bytes(b"1")
    assert take(source) == []
    partial.rename(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "copied.png").write_bytes(b"1")
    assert take(source) == ["a.png"]


def test_what_changed_while_it_was_decided_on_comes_again(tmp_path: Path, outbox: Outbox) -> None:
    source = open_folder(tmp_path / "in", outbox)
    appear(tmp_path / "in", "a.png")
    [taken] = source.take(1)
    assert source.is_unchanged(taken)
    (tmp_path / "in" / "a.png").write_bytes(b"other")
    assert not source.is_unchanged(taken)
    source.release([taken])
    assert take(source) == ["a.png"]
    source.finish([taken])
    assert (tmp_path / "in" / "a.png").exists()


def test_a_name_that_comes_again_with_another_photograph_is_decided_again(tmp_path: Path, outbox: Outbox) -> None:
    source = open_folder(tmp_path / "in", outbox)
    appear(tmp_path / "in", "a.png")
    [taken] = source.take(1)
    outbox.add([Pending(0, "1", "{}")], [taken.key])
    source.finish([taken])
    assert take(source) == []
    appear(tmp_path / "in", "a.png", seed=5)
    assert take(source) == ["a.png"]


def test_decided_photographs_are_moved_and_none_replaces_another(tmp_path: Path, watch_once) -> None:
    for _ in range(2):
        appear(tmp_path / "in", "a.png")
        assert watch_once(tmp_path / "in", [str(tmp_path / "out")], done=str(tmp_path / "done")) == 1
    assert list((tmp_path / "in").iterdir()) == []
    assert len(list((tmp_path / "done").glob("a*.png"))) == 2
    assert len({each["id"] for each in decisions(tmp_path / "out")}) == 2


def test_killed_between_decision_and_move_nothing_is_decided_twice(tmp_path: Path, outbox: Outbox) -> None:
    appear(tmp_path / "in", "a.png")
    [taken] = open_folder(tmp_path / "in", outbox).take(1)
    outbox.add([Pending(0, "1", "{}")], [taken.key])
    outbox.close()
    again = Outbox(tmp_path / "kept", ["a"], 10)
    source = open_folder(tmp_path / "in", again, done=str(tmp_path / "done"), once=True)
    assert take(source) == []
    assert source.ended
    assert (tmp_path / "done" / "a.png").exists()
    assert not again.is_decided(taken.key)


def test_what_stays_is_not_decided_again_after_a_restart(tmp_path: Path, watch_once) -> None:
    appear(tmp_path / "in", "a.png")
    assert watch_once(tmp_path / "in", [str(tmp_path / "out")]) == 1
    appear(tmp_path / "in", "b.png")
    assert watch_once(tmp_path / "in", [str(tmp_path / "out")]) == 1
    assert [each["image"] for each in decisions(tmp_path / "out")] == ["a.png", "b.png"]


def test_an_unreadable_file_is_a_decision_and_the_others_go_on(tmp_path: Path, watch_once) -> None:
    appear(tmp_path / "in", "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"no photograph")
    os.rename(appear(tmp_path / "in", "x.png", defect=True), os.fsencode(tmp_path / "in") + b"/c\xff.png")
    assert watch_once(tmp_path / "in", [str(tmp_path / "out")]) == 3
    first, second, third = decisions(tmp_path / "out")
    assert (first["decision"], second["decision"], third["decision"]) == ("good", "unreadable", "defect")
    assert "b.png" in second["error"]
    assert "score" not in second
    assert third["image"] == "c\\udcff.png"
    assert third["boxes"][0]["score"] > third["threshold"]


def test_a_file_whose_writer_pauses_is_decided_on_when_it_is_whole(tmp_path: Path, watch_once) -> None:
    whole = appear(tmp_path / "elsewhere", "a.png").read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(whole[:2000])
    stop = threading.Event()
    settings = {"once": False, "settle_seconds": 0.05, "done": str(tmp_path / "done")}
    folder = [str(tmp_path / "out")]
    thread = threading.Thread(daemon=True, target=watch_once, args=(tmp_path / "in", folder, stop), kwargs=settings)
    thread.start()
    appear(tmp_path / "in", "b.png")
    wait_until(lambda: len(decisions(tmp_path / "out")) == 1)
    with open(tmp_path / "in" / "a.png", "ab") as file:
        file.write(whole[2000:])
    wait_until(lambda: len(decisions(tmp_path / "out")) == 2)
    (tmp_path / "in" / "c.png").write_bytes(whole[:2000])
    wait_until(lambda: len(decisions(tmp_path / "out")) == 3)
    stop.set()
    thread.join(30)
    decided = [(each["image"], each["decision"]) for each in decisions(tmp_path / "out")]
    assert decided == [("b.png", "good"), ("a.png", "good"), ("c.png", "unreadable")]


def test_a_folder_that_is_away_for_a_while_is_read_again(tmp_path: Path, outbox: Outbox) -> None:
    source = open_folder(tmp_path / "in", outbox)
    (tmp_path / "in").rename(tmp_path / "away")
    assert take(source) == take(source) == []
    (tmp_path / "away").rename(tmp_path / "in")
    appear(tmp_path / "in", "a.png")
    assert take(source) == ["a.png"]


def test_a_stop_leaves_what_was_not_decided(tmp_path: Path, watch_once) -> None:
    appear(tmp_path / "in", "a.png")
    stop = threading.Event()
    stop.set()
    assert watch_once(tmp_path / "in", [str(tmp_path / "out")], stop, done=str(tmp_path / "done")) == 0
    assert (tmp_path / "in" / "a.png").exists()


@pytest.mark.parametrize(
    ("source", "settings", "sentence"),
    [("missing", {}, "is not a folder"), ("in", {"done": "in"}, "where they come from")],
)
def test_a_folder_that_cannot_be_used_is_a_sentence(
    tmp_path: Path, watch_once, source: str, settings: dict[str, str], sentence: str
) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(BadInput, match=sentence):
        watch_once(tmp_path / source, ["-"], **{key: str(tmp_path / value) for key, value in settings.items()})
