"""The page in a real browser: Playwright with the system's Chromium (`pip install playwright`)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving_server import running

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tried where playwright is installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="the page is tried where chromium is installed"),
]
MARKUP = "<img src=x onerror=document.title='run'>.png"


@pytest.fixture
def page() -> Iterator[object]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 380, "height": 900})
        browser.close()


def test_a_person_tries_a_photograph_and_marks_it_by_keyboard(
    page, toy_bundle: Path, defect: bytes, tmp_path: Path
) -> None:
    outside, problems = [], []
    page.on("request", lambda request: outside.append(request.url) if "//localhost:" not in request.url else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    with running({"plates": toy_bundle}, token="secret", decisions=str(tmp_path / "kept")) as server:
        page.goto(server.url)
        page.fill("#token", "secret")
        page.click("#token-form button")
        page.wait_for_function("document.querySelector('#model').options.length === 1")
        upload = {"name": MARKUP, "mimeType": "image/png", "buffer": defect}
        page.set_input_files("#file", files=[upload])
        page.wait_for_selector("#results .verdict.defect")
        page.wait_for_selector("#decisions li img")
        assert MARKUP in page.inner_text("#decisions li .name")
        page.focus("#decisions li")
        page.keyboard.press("w")
        page.wait_for_selector("#decisions .wrong[aria-pressed=true]")
        assert page.evaluate("document.documentElement.scrollWidth") <= 380
        assert page.title() == "Visual quality inspection"
    assert problems == []
    assert [address for address in outside if not address.startswith(("data:", "blob:"))] == []
    assert len(list((tmp_path / "kept" / "photographs").iterdir())) == 1


def test_the_routes_are_shown_without_anything_from_elsewhere(page, toy_bundle: Path) -> None:
    outside, problems = [], []
    page.on("request", lambda request: outside.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    with running({"plates": toy_bundle}) as server:
        page.goto(f"{server.url}/docs")
        page.wait_for_selector("text=/image-anomaly-detection")
    assert problems == []
    assert [address for address in outside if not address.startswith((server.url, "data:"))] == []
