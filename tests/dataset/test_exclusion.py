"""data.exclude: what a person leaves out of a set."""

from __future__ import annotations

import pytest

from vqi.dataset.exclusion import exclude
from vqi.dataset.layouts.interface import Photograph, Reading

READING = Reading(
    tuple(Photograph(path, "train", "good", "good") for path in ("good/01.png", "good/02 b.png", "line[2]/01.png"))
)


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        ((), ["good/01.png", "good/02 b.png", "line[2]/01.png"]),
        (("good/01.png",), ["good/02 b.png", "line[2]/01.png"]),
        (("good/",), ["line[2]/01.png"]),
        (("*/01.png",), ["good/02 b.png"]),
        (("good/02?b.png",), ["good/01.png", "line[2]/01.png"]),
        (("line[2]/01.png",), ["good/01.png", "good/02 b.png"]),
        (("goo",), ["good/01.png", "good/02 b.png", "line[2]/01.png"]),
    ],
)
def test_paths_folders_and_patterns(patterns: tuple[str, ...], kept: list[str]) -> None:
    assert [photograph.path for photograph in exclude(READING, patterns).photographs] == kept


def test_what_is_left_out_is_counted_and_an_idle_pattern_is_named() -> None:
    assert exclude(READING, ("good", "typo*")).notes == (
        "2 photographs left out, as data.exclude says (good/01.png, good/02 b.png).",
        "data.exclude names what no photograph of the set is called: typo*.",
    )
