"""New splits of a set by percentages: by seed and content, the same share of every type of defect, and never through a
group."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vqi.dataset.layouts.interface import LayoutSplit
from vqi.platform.errors import BadInput
from vqi.tools.conversion.rows import Row

SPLITS: tuple[LayoutSplit, ...] = ("train", "validation", "test")


def check_shares(shares: Mapping[LayoutSplit, float]) -> None:
    """Raise BadInput where the percentages do not sum to 100, one is none, or nothing would be trained on."""
    if any(not 0 <= share <= 100 for share in shares.values()) or abs(sum(shares.values()) - 100) > 1e-9:
        listed = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        raise BadInput(f"The percentages are {listed}: each lies between 0 and 100, and they sum to 100.")
    if not shares["train"]:
        raise BadInput("--train is 0, so that nothing would be trained on; give it a share.")


def split_rows(rows: Sequence[Row], shares: Mapping[LayoutSplit, float], seed: int) -> list[Row]:
    """The photographs with new splits. `shares` are percentages.

    What is dealt are groups (ingest's: photographs of one part, with the same bytes, near copies), in the order of
    their hashes, each type of defect by itself. A group with a defect goes to validation or test with all that is in
    it: defects are never trained on. What is unlabelled goes to test. Raises BadInput where there are defects and
    neither validation nor test has a share, and where no good group is left to train on.
    """
    check_shares(shares)
    members: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        members[row.sample.group_key].append(row)
    by_type: dict[str, list[str]] = defaultdict(list)
    for key, group in members.items():
        types = sorted({row.sample.defect for row in group if row.sample.label == "defect"})
        unlabelled = any(row.sample.label == "unknown" for row in group)
        by_type[types[0] if types else "unknown" if unlabelled else "good"].append(key)
    later: tuple[LayoutSplit, ...] = ("validation", "test")
    tested = {name: shares[name] for name in later}
    splits: dict[str, LayoutSplit] = {}
    for kind, keys in sorted(by_type.items()):
        if kind == "unknown":
            splits |= dict.fromkeys(keys, "test")
            continue
        if kind != "good" and not sum(tested.values()):
            raise BadInput(
                f"There are defects ({kind}), which are never trained on, and neither --val nor --test has a share."
            )
        wanted: Mapping[LayoutSplit, float] = shares if kind == "good" else tested
        order = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}/split/{key}".encode()).digest())
        start = 0
        for name, count in _counts(len(order), wanted).items():
            splits |= dict.fromkeys(order[start : start + count], name)
            start += count
    if not any(splits[key] == "train" for key in by_type["good"]):
        raise BadInput("No good photograph is left to train on: give --train more, or bring more groups of good ones.")
    return [replace(row, split=splits[row.sample.group_key], dealt=splits[row.sample.group_key]) for row in rows]


def contents(rows: Sequence[Row]) -> list[str]:
    """What each split holds, a line each: "train: 80 photographs (good 80)"."""
    lines = []
    for name in SPLITS:
        counts = Counter(row.sample.defect for row in rows if row.dealt == name)
        if counts:
            types = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
            lines.append(f"{name}: {counts.total()} photographs ({types})")
    return lines


def _counts(groups: int, shares: Mapping[LayoutSplit, float]) -> dict[LayoutSplit, int]:
    """How many of `groups` go to each split: by largest remainders, and at least one to each that has a share, the
    smallest shares first, where there are enough."""
    total = sum(shares.values())
    exact = {name: groups * share / total for name, share in shares.items()}
    counts = {name: math.floor(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: (counts[name] - exact[name], SPLITS.index(name))):
        if sum(counts.values()) < groups:
            counts[name] += 1
    for name in sorted(exact, key=lambda name: shares[name]):
        largest = max(counts, key=lambda other: counts[other])
        if shares[name] and not counts[name] and counts[largest] > 1:
            counts[name], counts[largest] = 1, counts[largest] - 1
    return counts
