"""`make bench` by values that are made up: ratios, table, page, what counts as worse, and what is kept and refused."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import bench as program
import numpy as np
import pytest
from bench import PAGE, PARTS, STORED, main, read_stored, run
from bench_side import resize_bank
from bench_text import HEAD, NOTHING, Bench, Cost, Machine, Row, compare, find_regressions, page, table
from measuring import WARM_UP_CALLS, median_seconds
from processes import measure_process

OURS = Cost(wall=4.0, processor=2.0, peak_mib=500.0)


def made_up(
    ours: Cost = OURS, anomalib: float = 20.0, limit: float = 1.6, processor: str = "p", demo: float = 30.0
) -> Bench:
    rows = {
        "fit/nuts": Row.of(
            "fit, nuts",
            ours,
            Cost(wall=2 * anomalib, processor=anomalib, peak_mib=1000.0),
            Cost(wall=2.0, processor=limit),
            "the network alone",
        ),
        "demo": Row.of("vqi demo", Cost(wall=60.0, processor=demo)),
        "bundle": Row.of("an image", Cost(wall=0.0123, processor=0.02)),
    }
    machine = Machine(processor=processor, threads=2, load=(0.5, 1.75))
    return Bench(
        configuration="nuts", date="2026-01-02", machine=machine, seconds=540.0, versions={"torch": "2"}, rows=rows
    )


def test_the_page_is_what_the_stored_run_gives() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(read_stored(STORED))


def test_the_prose_holds_no_numbers() -> None:
    assert [text for text in (*HEAD, NOTHING) if re.search(r"\d", text)] == []


def test_ratios_stand_in_record_table_and_page() -> None:
    bench = made_up()
    row = bench.rows["fit/nuts"]
    assert row.over_ours is not None
    assert row.over_limit is not None
    assert (row.over_ours.processor, row.over_ours.wall, row.over_ours.peak) == (10.0, 10.0, 2.0)
    assert (row.over_limit.processor, row.over_limit.wall, row.over_limit.peak) == (1.25, 2.0, None)
    text = page(bench)
    assert "| fit, nuts | 4 (2) | 40 (20) | 10 (10) | 2 (1.6) | 1.25 (2) | 500, 1,000 |" in text
    assert "| vqi demo | 60 (30) |  |  |  |  |  |" in text
    assert "| an image | 12.3 (20) ms |" in text
    assert "- fit, nuts: the network alone." in text
    assert "p, 2 thread(s), 2026-01-02; nuts." in text
    assert "took 9 minutes; the load before and after it was 0.5 and 1.8" in text
    shown = table(bench).splitlines()
    assert len({len(line) for line in shown}) == 1
    assert shown[1].split() == [
        "fit,",
        "nuts",
        "4",
        "(2)",
        "40",
        "(20)",
        "10",
        "(10)",
        "2",
        "(1.6)",
        "1.25",
        "(2)",
        "500,",
        "1,000",
    ]


def test_a_run_is_read_as_it_was_written() -> None:
    bench = made_up()
    assert Bench.model_validate_json(bench.model_dump_json(indent=1)) == bench


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({}, []),
        ({"anomalib": 18.5}, []),
        ({"anomalib": 18.0}, ["anomalib / ours 9, stored 10"]),
        ({"anomalib": 40.0, "limit": 3.2, "demo": 10.0}, []),
        ({"limit": 1.4}, ["ours / limit 1.43, stored 1.25"]),
        (
            {"ours": Cost(wall=4.0, processor=2.0, peak_mib=600.0)},
            ["memory, anomalib / ours 1.67, stored 2"],
        ),
        ({"demo": 34.0}, ["seconds of the processor 34, stored 30"]),
        ({"demo": 34.0, "processor": "another"}, []),
    ],
)
def test_what_got_worse_by_more_than_a_tenth_is_named(changed: dict, names: list[str]) -> None:
    worse = find_regressions(made_up(**changed), made_up())
    assert [sentence.partition(": ")[2] for sentence in worse] == names


def test_the_summary_names_the_number_of_rows() -> None:
    assert compare(made_up(), made_up()) == "bench: none of 3 rows is more than 10% worse than stored on 2026-01-02."
    lines = compare(made_up(demo=60.0, limit=0.8), made_up()).splitlines()
    assert lines[0] == "bench: 2 ratio(s) of 3 rows are more than 10% worse than stored on 2026-01-02:"
    assert lines[1:] == [
        "- fit, nuts: ours / limit 2.5, stored 1.25",
        "- vqi demo: seconds of the processor 60, stored 30",
    ]
    other = made_up().model_copy(update={"configuration": "bolts"})
    assert compare(other, made_up()).startswith("bench: not compared")


def test_what_is_measured_is_kept_when_a_later_row_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_after_one(plan, scratch):
        yield "demo", made_up().rows["demo"]
        raise SystemExit("no room")

    monkeypatch.setitem(PARTS, "demo", fail_after_one)
    plan = program.Plan("nuts", tmp_path, tmp_path, threads=1, anomalib=None)
    with pytest.raises(SystemExit, match="no room"):
        run(plan, ["demo"], tmp_path / "out" / "bench.json")
    kept = read_stored(tmp_path / "out" / "bench.json")
    assert kept is not None
    assert list(kept.rows) == ["demo"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--store"], "the load is 9.0, so the figures would mislead"),
        (["--store", "--quick"], "only a whole run is stored"),
        (["--compare", "missing.json"], "missing.json is not a file"),
        (["--anomalib-python", "missing"], "--anomalib-python: missing is not a file"),
        (["--data", "missing"], "missing does not exist"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(
    options: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (9.0, 9.0, 9.0))
    monkeypatch.setattr(program, "run", lambda *_: pytest.fail("it ran"))
    monkeypatch.setattr(sys, "argv", ["bench.py", "--threads", "2", *options])
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_a_quick_run_prints_what_it_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.py", "--quick", "--only", "check", "--out", str(tmp_path / "out")])
    main()
    kept = read_stored(tmp_path / "out" / "bench.json")
    assert kept is not None
    assert list(kept.rows) == ["check"]
    assert kept.rows["check"].what == "vqi check of rendered, 17 photographs"
    assert kept.rows["check"].over_limit is not None
    assert kept.rows["check"].over_limit.processor > 1
    assert capsys.readouterr().out == table(kept) + "\n"


def test_calls_take_turns() -> None:
    order: list[str] = []
    medians = median_seconds({name: lambda name=name: order.append(name) for name in "ab"}, rounds=2)
    assert order == ["a", "b"] * (WARM_UP_CALLS + 2)
    assert set(medians) == {"a", "b"}
    assert all(0 <= cost["processor"] < cost["wall"] + 1 for cost in medians.values())


def test_a_bank_is_brought_to_a_size_and_nothing_else() -> None:
    index = {"bank": np.arange(6, dtype=np.float32).reshape(3, 2), "norms": np.ones(3), "mean": np.ones(2)}
    assert {name: len(values) for name, values in resize_bank(index, 7).items()} == {"bank": 7, "norms": 7, "mean": 2}
    assert np.array_equal(resize_bank(index, 7)["bank"][3:6], index["bank"])
    assert resize_bank(index, 0)["bank"] is index["bank"]


def test_a_process_is_measured_with_its_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('in the log'); raise SystemExit(2)"]
    cost = measure_process(command, tmp_path / "log", allowed=(0, 2))
    assert cost["peak_mib"] > 1
    assert cost["processor"] > 0
    with pytest.raises(SystemExit, match=r"exit code 2:\n(in the log\n){2}"):
        measure_process(command, tmp_path / "log")
