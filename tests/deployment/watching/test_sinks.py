"""Sinks that are there, away, and killed: nothing is lost, nothing comes twice."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from pathlib import Path

import pytest
from PIL import Image

from line import Receiver, appear, decisions, wait_until
from vqi.deployment.watching import delivery
from vqi.deployment.watching.outbox import Pending
from vqi.deployment.watching.settings import WatchSettings
from vqi.deployment.watching.sinks import SinkAway, open_sink
from vqi.deployment.watching.sinks.folder import FolderSink
from vqi.deployment.watching.sinks.webhook import SECRET, sign
from vqi.platform.errors import BadInput, RunFailed


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(delivery, "LONGEST_PAUSE", 0.05)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def line_of_three(tmp_path: Path) -> Path:
    for number, defect in enumerate((False, True, False)):
        appear(tmp_path / "in", f"{number}.png", defect=defect)
    return tmp_path / "in"


def pending(number: int, **more: object) -> Pending:
    text = json.dumps({"id": str(number), "time": "2026-11-29T10:00:00", "decision": "good", **more})
    return Pending(number, str(number), text)


@pytest.mark.parametrize(("pictures", "drawn"), [("defects", [1]), ("all", [0, 1, 2]), ("none", [])])
def test_a_folder_gets_lines_and_pictures(
    tmp_path: Path, watch_once, line_of_three: Path, pictures: str, drawn: list[int]
) -> None:
    watch_once(line_of_three, [str(tmp_path / "out")], pictures=pictures)
    lines = decisions(tmp_path / "out")
    assert [each["decision"] for each in lines] == ["good", "defect", "good"]
    assert [number for number, each in enumerate(lines) if "picture" in each] == drawn
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.jpg")}
    assert files == {each["picture"] for each in lines if "picture" in each}
    assert all(Image.open(tmp_path / "out" / file).size == (96, 80) for file in files)


def test_lines_are_put_aside_by_size(tmp_path: Path) -> None:
    sink = FolderSink(tmp_path, 150)
    for number in range(4):
        sink.deliver(pending(number))
    assert len(list(tmp_path.glob("decisions-*.jsonl"))) == 1
    assert [each["id"] for each in decisions(tmp_path)] == ["0", "1", "2", "3"]
    assert (tmp_path / "decisions.jsonl").stat().st_size <= 150


def test_a_line_that_was_written_and_not_confirmed_is_not_written_twice(tmp_path: Path) -> None:
    FolderSink(tmp_path, 1 << 20).deliver(pending(1))
    with open(tmp_path / "decisions.jsonl", "a") as file:
        file.write('{"id": "2", "de')
    sink = FolderSink(tmp_path, 1 << 20)
    sink.deliver(pending(1))
    sink.deliver(pending(2))
    assert [each["id"] for each in decisions(tmp_path)] == ["1", "2"]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = FolderSink(tmp_path, 1 << 20)
    sink.deliver(pending(1))
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        sink.deliver(pending(2))
    monkeypatch.undo()
    sink.deliver(pending(2))
    assert [each["id"] for each in decisions(tmp_path)] == ["1", "2"]


def test_a_folder_that_is_gone_is_away_and_not_made_anew(tmp_path: Path) -> None:
    sink = FolderSink(tmp_path / "out", 1 << 20)
    (tmp_path / "out").rmdir()
    with pytest.raises(SinkAway):
        sink.deliver(pending(1))
    assert not (tmp_path / "out").exists()


def test_standard_output_gets_a_line_a_decision(capsys, watch_once, line_of_three: Path) -> None:
    watch_once(line_of_three, ["-"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["image"], each["decision"]) for each in lines] == [
        ("0.png", "good"),
        ("1.png", "defect"),
        ("2.png", "good"),
    ]
    assert {each["format"] for each in lines} == {"vqi-decision/1"}


def test_a_webhook_gets_each_decision_signed_and_is_tried_again(
    watch_once, line_of_three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, "secret")
    receiver = Receiver()
    receiver.statuses = [503, 302, 404]
    watch_once(line_of_three, [f"{receiver.url}?token=hidden"])
    receiver.stop()
    assert receiver.images() == ["0.png", "1.png", "2.png"]
    for headers, body in receiver.got:
        stamp = headers["X-Vqi-Timestamp"]
        expected = hmac.new(b"secret", stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        assert headers["X-Vqi-Signature"] == f"sha256={expected}" == sign(b"secret", stamp, body)
        assert headers["Idempotency-Key"] == json.loads(body)["id"]


def test_what_a_webhook_will_never_take_is_put_aside(watch_once, line_of_three: Path) -> None:
    receiver = Receiver()
    receiver.statuses = [422]
    watch_once(line_of_three, [receiver.url])
    receiver.stop()
    assert receiver.images() == ["1.png", "2.png"]


def test_a_sink_that_is_killed_gets_all_it_missed(tmp_path: Path, watch_once, line_of_three: Path) -> None:
    receiver = Receiver()
    stop = threading.Event()
    sinks = [receiver.url, str(tmp_path / "out")]
    thread = threading.Thread(daemon=True, target=watch_once, args=(line_of_three, sinks, stop), kwargs={"once": False})
    thread.start()
    wait_until(lambda: len(receiver.got) == 3)
    receiver.stop()
    for number in range(3, 6):
        appear(line_of_three, f"{number}.png")
    wait_until(lambda: len(decisions(tmp_path / "out")) == 6)
    again = Receiver(receiver.port)
    wait_until(lambda: len(again.got) == 3)
    stop.set()
    thread.join(30)
    again.stop()
    assert receiver.images() + again.images() == [f"{number}.png" for number in range(6)]


def test_what_a_sink_has_not_at_the_end_comes_at_the_next_start(
    tmp_path: Path, watch_once, line_of_three: Path
) -> None:
    receiver = Receiver()
    receiver.stop()
    with pytest.raises(RunFailed, match="has not yet 3 decisions"):
        watch_once(line_of_three, [receiver.url], flush_seconds=0)
    again = Receiver(receiver.port)
    assert watch_once(line_of_three, [receiver.url]) == 0
    again.stop()
    assert again.images() == ["0.png", "1.png", "2.png"]


def test_photographs_wait_where_as_many_decisions_wait_as_may_be_kept(
    tmp_path: Path, watch_once, line_of_three: Path
) -> None:
    receiver = Receiver()
    receiver.stop()
    stop = threading.Event()
    done = tmp_path / "done"
    thread = threading.Thread(
        daemon=True,
        target=watch_once,
        args=(line_of_three, [receiver.url], stop),
        kwargs={"buffer": 2, "done": str(done)},
    )
    thread.start()
    wait_until(lambda: done.exists() and len(list(done.iterdir())) == 2)
    assert [path.name for path in line_of_three.iterdir()] == ["2.png"]
    again = Receiver(receiver.port)
    thread.join(30)
    again.stop()
    assert not thread.is_alive()
    assert again.images() == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("ftp://host/x", "cannot be used"),
        ("http://", "needs a host"),
        ("http://host:0/x", "needs a host"),
        ("http://user:secret@host/x", "environment"),
        ("mqtt://host/a/#", "may not hold"),
        ("mqtt://host/a/+/b", "may not hold"),
    ],
)
def test_an_address_that_cannot_be_used_is_a_sentence(address: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence) as error:
        open_sink(address, WatchSettings(), {})
    assert "secret" not in str(error.value)


def test_two_sinks_with_one_name_are_refused(watch_once, line_of_three: Path) -> None:
    with pytest.raises(BadInput, match="Two sinks"):
        watch_once(line_of_three, ["http://127.0.0.1:1/x?a", "http://127.0.0.1:1/x?b"])
