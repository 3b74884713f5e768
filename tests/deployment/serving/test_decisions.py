"""The page, what it reads, and what people say of decisions."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from PIL import Image

from serving_server import running
from vqi.deployment.serving.decision_log import DecisionLog
from vqi.platform.errors import BadInput


def test_decisions_are_listed_counted_drawn_and_marked(
    toy_bundle: Path, good: bytes, defect: bytes, tmp_path: Path
) -> None:
    with running({"plates": toy_bundle}, decisions=str(tmp_path / "kept")) as server:
        for name, content in (("=good", good), ("<b>defect</b>", defect), ("broken", b"x")):
            server.request("POST", "/predict", fields=[("files", (name, content))])
        broken, bad, fine = server.request("GET", "/decisions").json()
        assert [entry["decision"] for entry in (broken, bad, fine)] == ["unreadable", "defect", "good"]
        assert bad["image"] == "<b>defect</b>"
        assert [entry["picture"] for entry in (broken, bad, fine)] == [False, True, True]
        assert server.request("GET", f"/decisions?after={fine['id']}&limit=1").json() == [broken]
        [hour] = {entry["hour"] for entry in server.request("GET", "/decisions/hours").json()}
        assert hour % 3600 == 0
        picture = server.request("GET", f"/decisions/{bad['id']}/picture?side=48")
        assert Image.open(io.BytesIO(picture.data)).size == (48, 40)
        assert server.request("GET", f"/decisions/{broken['id']}/picture").status == 404

        wrong = {"mark": "wrong", "note": "=a scratch of the light"}
        marked = server.request("POST", f"/decisions/{bad['id']}/mark", json=wrong).json()
        assert (tmp_path / "kept" / marked["photograph"]).read_bytes() == defect
        server.request("POST", f"/decisions/{fine['id']}/mark", json={"mark": "right"})
        refused = server.request("POST", f"/decisions/{broken['id']}/mark", json={"mark": "wrong"})
        assert (refused.status, refused.json()["error"].split(";")[0]) == (
            400,
            f"Decision {broken['id']} is unreadable",
        )
        assert server.request("POST", "/decisions/99/mark", json={"mark": None}).status == 404
        assert server.request("POST", f"/decisions/{10**30}/mark", json={"mark": None}).status == 422
        assert server.request("POST", f"/decisions/{bad['id']}/mark", json={"mark": "perhaps"}).status == 422
        table = list(csv.DictReader(io.StringIO(server.request("GET", "/decisions/marked.csv").data.decode())))
    assert [(row["label"], row["decided"]) for row in table] == [("good", "good"), ("good", "defect")]
    assert table[1]["note"] == "'=a scratch of the light"
    # What was said outlives the server; photographs that nobody marked do not.
    log = DecisionLog(tmp_path / "kept")
    assert [entry["mark"] for entry in log.latest()] == [None, "wrong", "right"]
    assert len(list((tmp_path / "kept" / "photographs").iterdir())) == 2
    log.close()


def test_the_front_door_reads_what_was_marked(toy_bundle: Path, good: bytes, defect: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with running({"plates": toy_bundle}, decisions=str(folder)) as server:
        for content in (good, defect):
            server.request("POST", "/predict", body=content)
        for entry in server.request("GET", "/decisions").json():
            server.request("POST", f"/decisions/{entry['id']}/mark", json={"mark": "right"})
        (folder / "marked.csv").write_bytes(server.request("GET", "/decisions/marked.csv").data)
    rows = list(csv.DictReader((folder / "marked.csv").open()))
    assert sorted(row["label"] for row in rows) == ["defect", "good"]
    assert all((folder / row["path"]).is_file() for row in rows)


def test_only_the_last_photographs_are_held(toy_bundle: Path, good: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqi.deployment.serving.decision_log.RECENT", 2)
    with running({"plates": toy_bundle}) as server:
        for _ in range(3):
            server.request("POST", "/predict", body=good)
        assert [entry["picture"] for entry in server.request("GET", "/decisions").json()] == [True, True, False]


def test_the_page_and_its_files_are_served_without_a_token_and_allow_nothing_else(toy_bundle: Path) -> None:
    with running({"plates": toy_bundle}, token="secret") as server:
        for path, start in (
            ("/", b"<!doctype html>"),
            ("/page/page.js", b'"use strict"'),
            ("/page/page.css", b":root"),
        ):
            response = server.request("GET", path)
            assert response.data.startswith(start)
            assert "script-src 'self'" in response.headers["Content-Security-Policy"]
        assert server.request("GET", "/decisions").status == 401
        assert server.request("GET", "/page/..%2Frun.py").status == 401


def test_a_folder_that_cannot_hold_decisions_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="Decisions cannot be kept in"):
        DecisionLog(tmp_path / "file")
