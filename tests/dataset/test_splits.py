"""Held-out photographs: by content and seed, duplicates together."""

from __future__ import annotations

import hashlib

import pytest

from vqi.dataset.splits import held_out, held_out_by_type, joined, plan_calibration, resolve_labelled_fraction
from vqi.platform.errors import BadInput


def contents(count: int, copies: int = 1) -> dict[str, str]:
    return {
        f"{index}-{copy}.png": hashlib.sha256(str(index).encode()).hexdigest()
        for index in range(count)
        for copy in range(copies)
    }


def test_order_does_not_matter_and_the_seed_does() -> None:
    normals = contents(100)
    chosen = held_out(normals, 0.2, 0, "calibration")
    assert len(chosen) == 20
    assert held_out(dict(reversed(normals.items())), 0.2, 0, "calibration") == chosen
    assert held_out(normals, 0.2, 1, "calibration") != chosen
    assert held_out(normals, 0.2, 0, "test") != chosen


def test_names_do_not_matter() -> None:
    normals = contents(50)
    renamed = {f"other/{path}": sha256 for path, sha256 in normals.items()}
    assert {path.removeprefix("other/") for path in held_out(renamed, 0.2, 0, "test")} == held_out(
        normals, 0.2, 0, "test"
    )


def test_duplicates_stay_together() -> None:
    normals = contents(30, copies=3)
    chosen = held_out(normals, 0.2, 0, "test")
    assert 0 < len(chosen) <= 18
    assert not {normals[path] for path in chosen} & {normals[path] for path in set(normals) - chosen}


@pytest.mark.parametrize(
    ("count", "copies", "held"), [(1, 1, 0), (1, 5, 0), (2, 1, 1), (3, 1, 1), (2, 4, 4), (5, 1, 1)]
)
def test_at_least_one_is_held_out_and_never_all(count: int, copies: int, held: int) -> None:
    assert len(held_out(contents(count, copies), 0.2, 0, "test")) == held


def test_never_all_even_at_the_largest_share() -> None:
    assert len(held_out(contents(4), 0.9, 0, "calibration")) == 3


def test_nothing_is_held_out_for_nothing() -> None:
    assert held_out(contents(10), 0.0, 0, "calibration") == set()


def test_groups_count_and_not_photographs() -> None:
    uneven = {f"{part}-{number}.png": str(part) for part in range(10) for number in range(1 + 20 * (part == 3))}
    for seed in range(20):
        chosen = held_out(uneven, 0.2, seed, "calibration")
        assert len({uneven[path] for path in chosen}) == 2
        assert not {uneven[path] for path in chosen} & {uneven[path] for path in set(uneven) - chosen}


def test_joined_groups_do_not_depend_on_order() -> None:
    assert joined(["d", "b", "c", "a", "b"], [(0, 2), (2, 3)]) == ["a", "b", "a", "a", "b"]
    assert joined(["d", "b", "c", "a", "b"], [(3, 2, 0)]) == ["a", "b", "a", "a", "b"]
    assert joined([], []) == []


@pytest.mark.parametrize(
    ("normals", "rate", "trains", "requested", "kind", "fraction", "scores", "needed"),
    [
        # Refits until a fifth suffices: 99 scores for 1 %.
        (99, 0.01, False, None, "cross", 0.0, 99, 99),
        (100, 0.01, False, None, "cross", 0.0, 100, 99),
        (494, 0.01, False, None, "cross", 0.0, 494, 99),
        (495, 0.01, False, None, "split", 0.2, 99, 495),
        (95, 0.05, False, None, "cross", 0.0, 95, 19),
        (100, 0.05, False, None, "split", 0.2, 20, 95),
        (499, 0.002, False, None, "cross", 0.0, 499, 499),
        # What trains has no refits.
        (30, 0.01, True, None, "split", 0.0, 6, 495),
        (500, 0.01, True, None, "split", 0.2, 100, 495),
        # A share that was asked for is kept.
        (30, 0.01, False, 0.5, "split", 0.5, 15, 198),
        (30, 0.1, True, 0.3, "split", 0.3, 9, 30),
        (30, 0.01, False, 0.0, "cross", 0.0, 30, 99),
        (30, 0.01, True, 0.0, "seen", 0.0, 30, None),
    ],
)
def test_where_a_threshold_comes_from(
    normals: int,
    rate: float,
    trains: bool,
    requested: float | None,
    kind: str,
    fraction: float,
    scores: int,
    needed: int | None,
) -> None:
    plan = plan_calibration(normals, rate, trains, requested)
    assert (plan.kind, plan.fraction, plan.scores, plan.normals_needed) == (kind, fraction, scores, needed)
    assert plan.smallest_rate == (None if kind == "seen" else 1 / (scores + 1))


@pytest.mark.parametrize("rate", [0.3, 0.1, 0.05, 0.02, 0.01, 0.003])
@pytest.mark.parametrize("requested", [None, 0.0, 0.1, 0.2, 0.35, 0.9])
@pytest.mark.parametrize("trains", [False, True])
def test_the_number_of_normals_needed_suffices_and_fewer_do_not(
    rate: float, requested: float | None, trains: bool
) -> None:
    needed = plan_calibration(10, rate, trains, requested).normals_needed
    if needed is None:
        assert trains
        assert requested == 0
        return
    enough = plan_calibration(needed, rate, trains, requested)
    assert enough.smallest_rate is not None
    assert enough.smallest_rate <= rate * (1 + 1e-12)
    # Rounding a share to whole parts may do with a few less.
    fewer = plan_calibration(int(needed * 0.9) - 2, rate, trains, requested)
    assert fewer.smallest_rate is not None
    assert fewer.smallest_rate > rate


@pytest.mark.parametrize("requested", [-0.1, 0.95, float("nan")])
def test_impossible_shares_are_refused(requested: float) -> None:
    with pytest.raises(BadInput, match="calibration_fraction"):
        plan_calibration(10, 0.01, False, requested)


def test_every_type_is_split_in_the_same_proportion() -> None:
    types = {"good": contents(10), "dent": {f"dent/{path}": sha256[::-1] for path, sha256 in contents(20).items()}}
    chosen = held_out_by_type(types, 0.8, 0, "labelled")
    assert {kind: len(chosen & set(of_type)) for kind, of_type in types.items()} == {"good": 8, "dent": 16}
    assert held_out_by_type(dict(reversed(types.items())), 0.8, 0, "labelled") == chosen
    assert held_out_by_type(types, 0.8, 1, "labelled") != chosen
    assert held_out_by_type(types, 0.0, 0, "labelled") == set()


def test_the_only_photograph_of_a_type_is_tested_on() -> None:
    types = {"good": contents(5), "dent": {"dent.png": "f" * 64}}
    assert "dent.png" not in held_out_by_type(types, 0.8, 0, "labelled")


def test_photographs_with_the_same_bytes_are_not_torn_between_types() -> None:
    types = {kind: {f"{kind}/{path}": sha256 for path, sha256 in contents(10).items()} for kind in ("dent", "scratch")}
    chosen = held_out_by_type(types, 0.5, 0, "labelled")
    assert len(chosen) == 10
    assert {path.partition("/")[2] for path in chosen if path.startswith("dent")} == {
        path.partition("/")[2] for path in chosen if "scratch" in path
    }


@pytest.mark.parametrize(
    ("fraction", "supervised", "share"), [(None, False, 0.0), (None, True, 0.8), (0.0, False, 0.0), (0.5, True, 0.5)]
)
def test_the_share_learnt_from(fraction: float | None, supervised: bool, share: float) -> None:
    assert resolve_labelled_fraction(fraction, supervised) == share


@pytest.mark.parametrize(("fraction", "supervised"), [(-0.1, False), (0.95, True), (float("nan"), False), (0.0, True)])
def test_impossible_shares_to_learn_from_are_refused(fraction: float, supervised: bool) -> None:
    with pytest.raises(BadInput, match="labelled_fraction"):
        resolve_labelled_fraction(fraction, supervised)
