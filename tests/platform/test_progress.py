from __future__ import annotations

import logging
import re

import pytest

from vqi.platform.progress import Progress


@pytest.mark.parametrize(
    ("total", "line"),
    [(4, r"read 2/4 \(50 %\), \d+ s left, loss 1"), (None, r"read 2, [\d.]+ a second, loss 1")],
)
def test_a_line_says_how_far_it_is(total: int | None, line: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    Progress("read", total, every=0).advance(2, "loss 1")
    assert re.fullmatch(line, caplog.messages[-1])
