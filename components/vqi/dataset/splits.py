"""Which photographs are trained on, calibrated with and tested on: by content and seed alone.

What is dealt are groups: photographs with the same bytes, near copies, and those that show one part (`data.group`). A
normal that is trained on while another photograph of it is calibrated with makes the threshold too low: with every part
photographed twice and dealt one by one, 60 % of new good parts are rejected where 3.2 % are expected.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from vqi.platform.errors import BadInput

TEST_FRACTION = 0.2
CALIBRATION_FRACTION = 0.2
LABELLED_FRACTION = 0.8
# Below this many normals every one is trained on and thresholds come from k-fold refits, whatever rate is asked for: a
# small set needs all it has.
FEWEST_FOR_CALIBRATION = 100


# What thresholds come from. "split": held-out normals under the final detector; "cross": training normals under refits;
# "seen": training normals of a network that learnt from them.
CalibrationKind = Literal["split", "cross", "seen"]


@dataclass(frozen=True)
class CalibrationPlan:
    """Where a threshold comes from, and the false-reject rate it can promise.

    `kind` "split": `scores` normals are held out, by ingest (`fraction` > 0) or by train; "cross": k-fold refits score
    every normal; "seen": normals that the network has learnt from, which promise nothing. `smallest_rate` = 1 / (scores
    + 1) is the smallest rate that can be promised, and `normals_needed` are the normals, in all, that the rate asked
    for takes; both None where none can be promised. Normals are counted in groups: several photographs of one part
    count once.
    """

    kind: CalibrationKind
    fraction: float
    scores: int
    smallest_rate: float | None
    normals_needed: int | None


def plan_calibration(
    normals: int, false_reject_rate: float, trains: bool, calibration_fraction: float | None
) -> CalibrationPlan:
    """How `normals` groups are shared between learning and the threshold.

    `trains`: whether the method learns by gradient, so that refits would take a training each. `calibration_fraction`
    is what was asked for; None holds out a fifth, of what trains always, and of the others only where that fifth
    suffices for the rate: a threshold of rate r takes 1 / r - 1 scores (Vovk, Gammerman, Shafer, "Algorithmic Learning
    in a Random World", 2005). Raises BadInput for a fraction outside [0, 0.9].
    """
    if calibration_fraction is not None and not 0 <= calibration_fraction <= 0.9:
        raise BadInput(
            f"data.calibration_fraction is {calibration_fraction}; it is a share of the normals between 0 (k-fold "
            "refits) and 0.9."
        )
    scores_needed = math.ceil(1 / Fraction(str(false_reject_rate))) - 1
    if calibration_fraction == 0:
        if trains:
            return CalibrationPlan("seen", 0.0, normals, None, None)
        return CalibrationPlan("cross", 0.0, normals, 1 / (normals + 1), scores_needed)
    share = CALIBRATION_FRACTION if calibration_fraction is None else calibration_fraction
    needed = max(math.ceil(scores_needed / Fraction(str(share))), 2)
    if calibration_fraction is None:
        in_ingest = normals >= max(needed, FEWEST_FOR_CALIBRATION)
        if not in_ingest and not trains:
            return CalibrationPlan("cross", 0.0, normals, 1 / (normals + 1), scores_needed)
        fraction = share if in_ingest else 0.0
    else:
        fraction = share
    scores = count_held_out(normals, share)
    return CalibrationPlan("split", fraction, scores, 1 / (scores + 1), needed)


def resolve_labelled_fraction(fraction: float | None, supervised: bool) -> float:
    """The share of the test photographs that are learnt from: what was asked for, or what the method needs where
    nothing was (None).

    Raises BadInput outside [0, 0.9], and for a supervised method that gets none.
    """
    if fraction is None:
        return LABELLED_FRACTION if supervised else 0.0
    if not 0 <= fraction <= 0.9:
        raise BadInput(
            f"data.labelled_fraction is {fraction}; it is a share of the test photographs between 0 and 0.9."
        )
    if supervised and not fraction:
        raise BadInput(
            "data.labelled_fraction is 0, but the method learns from labelled defects; write auto, or a share such as "
            "0.8."
        )
    return float(fraction)


def joined(keys: Sequence[str], ties: Iterable[Iterable[int]]) -> list[str]:
    """The group of each item: items with the same key are one, and `ties` are numbers of items that belong together, in
    sets that may overlap.

    A group is named by the smallest of its keys: with hashes of content for keys, neither names nor order change it.
    """
    parent = {key: key for key in keys}

    def root(key: str) -> str:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for tie in ties:
        roots = sorted({root(keys[number]) for number in tie})
        for other in roots[1:]:
            parent[other] = roots[0]
    return [root(key) for key in keys]


def count_held_out(groups: int, fraction: float) -> int:
    """How many of `groups` are held out: at least one where `fraction` > 0, and never all."""
    return min(max(round(fraction * groups), 1), groups - 1) if fraction > 0 and groups > 1 else 0


def held_out(group_by_path: Mapping[str, str], fraction: float, seed: int, purpose: str) -> set[str]:
    """The paths of the `fraction` of groups held out for `purpose`, at least one where `fraction` > 0 and never all.

    Chosen by the hash of seed, purpose and group: with groups named by content neither order nor source matter, and a
    photograph that is added moves few others. A group's size has no say: what is promised holds for parts that are
    chosen blindly.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for path, group in group_by_path.items():
        groups[group].append(path)
    order = sorted(groups, key=lambda group: hashlib.sha256(f"{seed}/{purpose}/{group}".encode()).digest())
    return {path for group in order[: count_held_out(len(groups), fraction)] for path in groups[group]}


def held_out_by_type(
    group_by_path: Mapping[str, Mapping[str, str]], fraction: float, seed: int, purpose: str
) -> set[str]:
    """`held_out` of every type by itself, so that each is split in the same proportion; `group_by_path` by type.

    A group of several types follows the first of them, so that no two splits share it.
    """
    chosen: set[str] = set()
    decided: dict[str, bool] = {}
    for _, of_type in sorted(group_by_path.items()):
        taken = held_out(
            {path: group for path, group in of_type.items() if group not in decided}, fraction, seed, purpose
        )
        taken |= {path for path, group in of_type.items() if decided.get(group)}
        decided |= {group: path in taken for path, group in of_type.items()}
        chosen |= taken
    return chosen
