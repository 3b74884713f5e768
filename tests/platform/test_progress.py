from __future__ import annotations

import logging
import re

import numpy as np
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


def test_the_first_unit_of_many_says_nothing_of_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    progress = Progress("looked at photographs", 100_000, clock=iter([0.0, 6.6, 12.0]).__next__)
    progress.advance()
    progress.advance(540)
    assert caplog.messages[0] == "looked at photographs 1/100000 (0 %)"
    assert caplog.messages[1].startswith("looked at photographs 541/100000 (1 %), ")


def lines_left(steps: np.ndarray, caplog: pytest.LogCaptureFixture, begun: int = 0) -> list[tuple[float, float]]:
    """Of work whose units take `steps` seconds each: the seconds that each line says are left, and that are, from the
    first tenth on."""
    caplog.set_level(logging.INFO)
    clock = np.concatenate([[0.0], np.cumsum(steps)])
    now = iter(clock.tolist())
    progress = Progress("read", begun + len(steps), begun=begun, clock=lambda: next(now))
    lines = []
    for at in range(1, len(clock)):
        caplog.clear()
        progress.advance()
        if caplog.messages and 0.1 <= at / len(steps) <= 0.9:
            lines.append((float(caplog.messages[0].split(", ")[1].split()[0]), float(clock[-1] - clock[at])))
    return lines


@pytest.mark.parametrize("start", [0.0, 6.0])
def test_what_is_left_is_right_within_a_fifth_after_a_tenth(start: float, caplog: pytest.LogCaptureFixture) -> None:
    steps = np.random.default_rng(0).uniform(0.02, 0.18, 1200)
    steps[0] += start
    lines = lines_left(steps, caplog, begun=300)
    assert len(lines) > 10
    assert max(abs(left / rest - 1) for left, rest in lines) < 0.2


def test_what_is_left_follows_the_speed(caplog: pytest.LogCaptureFixture) -> None:
    # Three times as fast from the first third on: from twice that time on the estimate is right again.
    steps = np.repeat([0.3, 0.1], [300, 1500])
    later = [(left, rest) for left, rest in lines_left(steps, caplog) if rest < steps.sum() - 190]
    assert later
    assert max(abs(left / rest - 1) for left, rest in later) < 0.05
