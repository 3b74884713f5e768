"""Dividing photographs between training, calibration and test: by content and seed alone.

Photographs with the same bytes always stay together: a normal that is trained on and calibrated with would make the threshold too low.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping

from vqi.platform.errors import BadInput

TEST_FRACTION = 0.2
CALIBRATION_FRACTION = 0.2
LABELLED_FRACTION = 0.8
# Below this many normals every one is trained on and thresholds come from k-fold refits: a fifth of fewer leaves too few for a rate of a few percent.
FEWEST_FOR_CALIBRATION = 100


def resolve_calibration_fraction(asked: float | None, normals: int) -> float:
    """The share of normals held out for thresholds: what was asked for, or by their number where nothing was (None).

    Raises BadInput outside [0, 0.9].
    """
    if asked is None:
        return CALIBRATION_FRACTION if normals >= FEWEST_FOR_CALIBRATION else 0.0
    if not 0 <= asked <= 0.9:
        raise BadInput(f"data.calibration_fraction is {asked}; it is a share of the normals between 0 (k-fold refits) and 0.9.")
    return float(asked)


def resolve_labelled_fraction(asked: float | None, supervised: bool) -> float:
    """The share of the test photographs that are learnt from: what was asked for, or what the method needs where nothing was (None).

    Raises BadInput outside [0, 0.9], and for a supervised method that is given none.
    """
    if asked is None:
        return LABELLED_FRACTION if supervised else 0.0
    if not 0 <= asked <= 0.9:
        raise BadInput(f"data.labelled_fraction is {asked}; it is a share of the test photographs between 0 and 0.9.")
    if supervised and not asked:
        raise BadInput("data.labelled_fraction is 0, but the method learns from labelled defects; write auto, or a share such as 0.8.")
    return float(asked)


def held_out(sha256_by_path: Mapping[str, str], fraction: float, seed: int, purpose: str) -> set[str]:
    """The paths of the `fraction` of photographs held out for `purpose`, at least one where `fraction` > 0 and never all.

    Chosen by the hash of seed, purpose and content: neither order nor source matter, and a photograph that is added moves few others.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for path, sha256 in sha256_by_path.items():
        groups[sha256].append(path)
    if fraction <= 0 or len(groups) < 2:
        return set()
    wanted = min(max(round(fraction * len(sha256_by_path)), 1), len(sha256_by_path) - 1)
    order = sorted(groups, key=lambda sha256: hashlib.sha256(f"{seed}/{purpose}/{sha256}".encode()).digest())
    chosen: set[str] = set()
    for sha256 in order:
        if len(chosen) + len(groups[sha256]) <= wanted:
            chosen.update(groups[sha256])
    if not chosen:
        chosen.update(groups[min(order, key=lambda sha256: len(groups[sha256]))])
    return chosen


def held_out_by_type(sha256_by_path: Mapping[str, Mapping[str, str]], fraction: float, seed: int, purpose: str) -> set[str]:
    """`held_out` of every type by itself, so that each is divided in the same proportion; `sha256_by_path` by type.

    Photographs with the same bytes are divided with the first of their types, so that no two splits share them.
    """
    chosen: set[str] = set()
    placed: dict[str, bool] = {}
    for _, of_type in sorted(sha256_by_path.items()):
        taken = held_out({path: sha256 for path, sha256 in of_type.items() if sha256 not in placed}, fraction, seed, purpose)
        taken |= {path for path, sha256 in of_type.items() if placed.get(sha256)}
        placed |= {sha256: path in taken for path, sha256 in of_type.items()}
        chosen |= taken
    return chosen
