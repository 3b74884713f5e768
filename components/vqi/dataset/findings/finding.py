"""One thing that is wrong with a set, and the words that its sentence is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vqi.dataset.check_record import Severity
from vqi.dataset.manifest import SPLITS, Sample, Split


@dataclass(frozen=True)
class Example:
    """A photograph that shows a finding, and its figures in words."""

    path: str
    caption: str


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `paths` holds the files it is about: a tuple each, of one file or of several that belong
    together. `examples` are pictured on the page."""

    severity: Severity
    code: str
    sentence: str
    paths: tuple[tuple[str, ...], ...] = ()
    examples: tuple[Example, ...] = ()


def first_few(values: Iterable[str]) -> str:
    """The different texts in order, at most three of them."""
    different = list(dict.fromkeys(values))
    return "; ".join(different[:3]) + ("; ..." if len(different) > 3 else "")


def alone(samples: Iterable[Sample]) -> tuple[tuple[str, ...], ...]:
    return tuple((sample.path,) for sample in samples)


def masks_of(samples: Iterable[Sample]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(mask.path for mask in sample.masks) or (sample.path,) for sample in samples)


def together(sample_groups: Sequence[Sequence[Sample]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(sample.path for sample in group) for group in sample_groups)


def splits_between(sample_groups: Sequence[Sequence[Sample]]) -> str:
    """Which splits share images, in the order of a run."""
    shared: set[Split] = {sample.split for group in sample_groups for sample in group}
    return " and ".join(split for split in SPLITS if split in shared)


def count_images(samples: Sequence[Sample]) -> str:
    return "1 image" if len(samples) == 1 else f"{len(samples)} images"


def count_occurring(items: Sequence[object], what: str) -> str:
    return f"1 {what} occurs" if len(items) == 1 else f"{len(items)} {what}s occur"


def by_number(samples: Sequence[Sample], one: str, many: str) -> str:
    return one if len(samples) == 1 else many


def in_pixels(size: tuple[int, int]) -> str:
    """(height, width) as people write it: width x height."""
    return f"{size[1]} x {size[0]}"
