"""Pages stand alone, run nothing and escape everything."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from vqi.pages.page import data_uri, render


class Tags(HTMLParser):
    """Every element and attribute of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_the_title_is_escaped():
    page = render("page.html.jinja", "vqi.pages", title="</title><script>alert(1)</script>")
    assert "script" not in {tag for tag, _ in Tags(page).tags}
    assert "&lt;script&gt;" in page


def test_a_page_may_run_nothing_and_fetch_nothing():
    tags = Tags(render("page.html.jinja", "vqi.pages", title="x")).tags
    (policy,) = [
        attributes["content"] for tag, attributes in tags if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "script-src" not in rules  # falls back to default-src
    assert not [attributes for _, attributes in tags if "src" in attributes or "href" in attributes]


def test_a_missing_value_is_an_error_and_not_a_gap():
    with pytest.raises(UndefinedError):
        render("page.html.jinja", "vqi.pages")


def test_a_picture_travels_inside_the_page():
    picture = np.zeros((10, 20, 3), np.uint8)
    picture[:, 10:] = 255
    head, body = data_uri(picture).split(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as decoded:
        assert decoded.size == (20, 10)
        assert np.abs(np.asarray(decoded.convert("RGB")).astype(int) - picture).mean() < 10
