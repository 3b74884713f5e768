"""Photographs that `data.exclude` leaves out: what a person decided, never a guess of the check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from vqi.dataset.layouts.interface import Reading
from vqi.dataset.layouts.listing import counted, examples


def exclude(reading: Reading, patterns: Sequence[str]) -> Reading:
    """The reading without the photographs that any of `patterns` names: a path, a folder, or a pattern of the shell
    over the whole path. A note counts them; another names the patterns that match nothing."""
    if not patterns:
        return reading
    matching = {photograph.path: _matching(photograph.path, patterns) for photograph in reading.photographs}
    excluded = [path for path, matches in matching.items() if matches]
    notes = []
    if excluded:
        notes.append(f"{counted(len(excluded), 'photograph')} left out, as data.exclude says ({examples(excluded)}).")
    matched = {pattern for matches in matching.values() for pattern in matches}
    if idle := [pattern for pattern in patterns if pattern not in matched]:
        notes.append(f"data.exclude names what no photograph of the set is called: {examples(idle)}.")
    kept = tuple(photograph for photograph in reading.photographs if not matching[photograph.path])
    return replace(reading, photographs=kept, notes=(*notes, *reading.notes))


def _matching(path: str, patterns: Sequence[str]) -> list[str]:
    return [
        pattern
        for pattern in patterns
        if path == pattern or path.startswith(f"{pattern.rstrip('/')}/") or fnmatchcase(path, pattern)
    ]
