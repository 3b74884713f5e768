"""The report says what happened in plain words, whatever is missing, and nothing that comes from data can act in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from example_results import (
    backbone,
    choice,
    confusion,
    example_results,
    metrics,
    type_metrics,
    weights,
)
from vqi.detectors.settings import BackboneSettings
from vqi.evaluation.charts import histogram_chart, roc_chart
from vqi.evaluation.histogram import Histogram
from vqi.evaluation.metrics import Confusion
from vqi.evaluation.pictures import Example
from vqi.evaluation.records import Results, read_results, write_results
from vqi.evaluation.report import ExampleChooser, write_report
from vqi.storage.weights import WeightsOrigin

HOSTILE = """"'><img src=x onerror=alert(1)></script></style></svg><script>alert(2)</script>{{ 7*7 }}.png"""


class Page(HTMLParser):
    """A page's elements, its text, and its rows of tables as text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self._in_cell = False
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data):
        self.words.append(data)
        if self._in_cell:
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def row(self, first: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == first)


def example(
    path: str = "test/scratch/001.png",
    label="defect",
    score: float = 3.0,
    threshold: float = 2.0,
    defect: str | None = None,
    side=64,
    mask=True,
):
    values = np.full((side, side), 0.2, np.float32)
    values[10:20, 30:50] = score
    decision: Any = "defect" if score > threshold else "good"
    defect = defect or ("scratch" if label == "defect" else label)
    truth = values > 0.3 if mask and label == "defect" else None
    return Example(path, label, defect, score, decision, np.full((side, side, 3), 128, np.uint8), values, truth)


def written(tmp_path: Path, value: Results, shown: list[Example] | None = None) -> Page:
    write_results(tmp_path, value)
    write_report(tmp_path / "report.html", read_results(tmp_path), shown or [])
    return Page(tmp_path / "report.html")


def test_the_page_holds_the_numbers(tmp_path: Path):
    page = written(tmp_path, example_results(), [example()])
    assert page.row("image AUROC")[1] == "0.9877"
    assert page.row("AUPRO 0.05")[1:] == ["–", "no mask was drawn."]
    assert page.row("precision")[1:] == ["–", "not defined on this test set"]
    assert page.row("pixel Dice")[1] == "0.2500"
    assert page.row("is defect") == ["is defect", "9", "1"]
    assert page.row("is good") == ["is good", "0", "20"]
    assert page.row("type") == ["type", "images", "image AUROC", "AUPRO 0.3", "mean score"]
    assert page.row("scratch") == ["scratch", "10", "0.9000", "–", "3.0000"]
    assert page.row("dent") == ["dent", "0", "–", "0.5000", "–"]
    assert page.row("good") == ["good", "20", "–", "–", "1.0000"]
    # The metric of that name stands above.
    assert [row[1] for row in page.rows if row[0] == "false-reject rate"] == ["–", "asked for 1 %, expected 5 %"]
    assert page.row("data set")[1] == "0123456789abcdef" * 4
    for words in (
        "patchcore",
        "resnet18 layer2+layer3",
        "ImageNet (file)",
        "At most 5 % of good parts",
        "positive class",
        "vqi predict BUNDLE",
        "256 × 256",
    ):
        assert words in page.text


@pytest.mark.parametrize(
    ("decisions", "sentence"),
    [
        (confusion(9, 0, 20, 1), "finds 9 of 10 defective parts, and none of 20 good parts would be rejected"),
        (confusion(10, 1, 0, 0), "finds all of 10 defective parts, and 1 of 1 good part would be rejected"),
        (confusion(0, 0, 0, 1), "finds none of 1 defective part, and no good part was tested"),
        (
            confusion(0, 2, 18, 0),
            "nothing is known about what is found; at the threshold 2 of 20 good parts would be rejected",
        ),
        (confusion(0, 0, 0, 0), "No labelled image was tested"),
    ],
)
def test_the_verdict_is_one_plain_sentence(tmp_path: Path, decisions: Confusion, sentence: str):
    page = written(
        tmp_path, example_results(metrics=metrics(image_auroc=None, confusion=decisions), per_defect={}, roc=())
    )
    assert sentence in page.text


def test_a_share_comes_with_its_interval(tmp_path: Path):
    # Wilson, 9 of 10 at 95 %: 0.596 to 0.982 (the textbook value).
    assert "90 % (95 % interval 60 to 98 %)" in written(tmp_path, example_results()).text


@pytest.mark.parametrize(
    ("origin", "network", "words"),
    [
        (weights(kind="random", label="random"), backbone(layers=()), "weights are random"),
        (
            weights(kind="none", label="none needed", sha256=""),
            backbone(name="filterbank", layers=("octave1",)),
            "No pretrained weights were used",
        ),
    ],
)
def test_missing_weights_are_reported_loudly(
    tmp_path: Path, origin: WeightsOrigin, network: BackboneSettings, words: str
):
    page = written(tmp_path, example_results(weights=origin, backbone=network))
    assert words in page.text
    assert page.text.index(words) < page.text.index("How well defects are found")
    assert words not in written(tmp_path, example_results()).text


def test_a_run_without_labels_masks_and_extras_still_has_a_page(tmp_path: Path):
    value = example_results(
        metrics=metrics(image_auroc=None, confusion=confusion(0, 0, 0, 0)),
        per_defect={},
        mean_scores={},
        roc=(),
        notes=(),
        settings={},
        backbone=backbone(layers=()),
        histogram=Histogram.of([], []),
        versions={},
    )
    examples = [example(f"a/{n}.png", "unknown", score) for n, score in enumerate((1.0, 5.0))]
    page = written(tmp_path, value, examples)
    assert "No labelled image was tested" in page.text
    assert "Unlabelled" in page.text
    assert sum(tag == "img" for tag, _ in page.tags) == 6


def test_examples_stand_under_their_verdict(tmp_path: Path):
    examples = [example("m.png", score=1.0), example("r.png", "good", 3.0), example("ok.png", mask=False)]
    text = written(tmp_path, example_results(), examples).text
    order = [
        text.index(words)
        for words in ("Missed defects", "m.png", "Good parts that would", "r.png", "Right decisions", "ok.png")
    ]
    assert order == sorted(order)
    assert "no mask" in text


def test_hostile_names_are_shown_and_do_nothing(tmp_path: Path):
    value = example_results(
        name=HOSTILE,
        per_defect={HOSTILE: type_metrics(1)},
        notes=(HOSTILE,),
        settings={HOSTILE: HOSTILE},
        weights=weights(label=HOSTILE),
        backbone=backbone(name=HOSTILE),
        versions={HOSTILE: "1"},
    )
    page = written(tmp_path, value, [example(HOSTILE, defect=HOSTILE)])
    names = [tag for tag, _ in page.tags]
    assert "script" not in names
    assert names.count("style") == 1
    assert names.count("img") == 3
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    sources = [str(attributes["src"]) for tag, attributes in page.tags if tag == "img"]
    assert all(source.startswith("data:image/webp;base64,") for source in sources)
    assert page.text.count("{{ 7*7 }}") >= 6


def test_nothing_is_loaded_from_outside(tmp_path: Path):
    page = written(tmp_path, example_results(), [example()])
    for _, attributes in page.tags:
        assert not set(attributes) & {"href", "srcset", "action", "data"}
    assert "url(" not in page.source
    assert "@import" not in page.source


def test_the_page_stays_small_with_large_noisy_photographs(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    values = np.zeros((700, 900), np.float32)
    examples = [Example(f"{n}.png", "good", "good", 1.0, "good", noise, values) for n in range(60)]
    page = written(tmp_path, example_results(), examples)
    assert sum(tag == "img" for tag, _ in page.tags) == 72
    assert len(page.source) < 6_000_000  # pure noise, which no photograph is


def offer(chooser: ExampleChooser, label: str, score: float, path: str, defect: str | None = None) -> bool:
    one = example(path, label, score, chooser.threshold, defect, side=24)
    wanted = chooser.wants(label=one.label, defect=one.defect, score=score)
    if wanted:
        chooser.offer(one)
    return wanted


def test_the_chooser_keeps_the_worst_misses_first():
    chooser = ExampleChooser(2.0)
    for score in np.random.default_rng(0).permutation(np.linspace(0.1, 4, 200)):
        offer(chooser, "defect", float(score), f"d{score:.3f}")
        offer(chooser, "good", float(score), f"g{score:.3f}")
    chosen = chooser.chosen()
    missed = [e.score for e in chosen if e.label == "defect" and e.decision == "good"]
    rejected = [e.score for e in chosen if e.label == "good" and e.decision == "defect"]
    assert missed[0] == pytest.approx(0.1)
    assert missed == sorted(missed)
    assert rejected[0] == pytest.approx(4.0)
    assert rejected == sorted(rejected, reverse=True)
    assert [e.right for e in chosen[: len(missed) + len(rejected)]] == [False] * (len(missed) + len(rejected))
    close = chosen[len(missed) + len(rejected)]
    assert abs(close.score - 2.0) < 0.05
    assert len(chosen) <= chooser.limit
    assert len({e.path for e in chosen}) == len(chosen)


def test_the_chooser_shows_every_type_and_holds_few_whatever_streams_by():
    chooser = ExampleChooser(2.0)
    kept = sum(offer(chooser, "defect", 3.0, f"{n}.png", f"type{n % 7}") for n in range(500))
    assert kept < 40
    assert {e.defect for e in chooser.chosen()} == {f"type{n}" for n in range(7)}
    flood = ExampleChooser(2.0)
    assert sum(offer(flood, "defect", 3.0, f"{n}.png", f"type{n}") for n in range(500)) < 40
    assert len(flood.chosen()) == flood.limit


def test_the_chooser_holds_examples_scaled_down_and_labels_that_are_unknown():
    chooser = ExampleChooser(2.0)
    chooser.offer(example("big.png", "unknown", 5.0, side=2000))
    (one,) = chooser.chosen()
    assert one.image.shape == (320, 320, 3)
    assert one.path == "big.png"


def test_a_histogram_counts_every_finite_score_once():
    data = Histogram.of(["good", "good", "defect", "defect"], [0.0, 1.0, 2.0, float("inf")], bins=4)
    assert data.edges == (0.0, 0.5, 1.0, 1.5, 2.0)
    assert data.counts == {"defect": (0, 0, 0, 1), "good": (1, 0, 1, 0)}
    assert Histogram.of([], []).edges == ()
    assert sum(Histogram.of(["good"] * 3, [7.0] * 3).counts["good"]) == 3


def test_scores_over_decades_get_a_log_axis():
    data = Histogram.of(["good"] * 9 + ["defect"], [*np.linspace(1, 2, 9), 1e5])
    assert data.log
    assert sum(map(sum, data.counts.values())) == 10
    assert "log scale" in histogram_chart(data, 2.5)


@pytest.mark.parametrize("threshold", [None, float("inf"), -5.0, 0.0, 1e9, 1.0])
@pytest.mark.parametrize("scores", [[1.0], [-3.0, -2.0], [1e-9, 1.0, 1e9, 1e-9], [0.0, 0.0]])
def test_charts_take_any_scores(scores: list[float], threshold: float | None):
    chart = histogram_chart(Histogram.of(["good"] * len(scores), scores), threshold)
    assert "<rect" in chart
    assert "nan" not in chart
    assert "inf" not in chart


def test_the_roc_marks_where_the_run_stands():
    chart = roc_chart([[0, 0, 2.0], [0, 1, 1.0], [1, 1, 0.0]], (0.0, 1.0))
    assert "M48.0 272.0L48.0 12.0L308.0 12.0" in chart
    assert 'cx="48.0" cy="12.0"' in chart
    assert roc_chart([], None) == ""


def test_other_rates_are_shown_with_their_decisions(tmp_path: Path) -> None:
    page = written(tmp_path, example_results(trade_off=(choice(), choice(rate=0.2, rate_95=None))))
    assert ["10 %", "21 %", "1.75", "10 / 10", "2 / 20"] in page.rows
    assert ["20 %", "–", "1.75", "10 / 10", "2 / 20"] in page.rows
    assert "What another rate would do" not in written(tmp_path, example_results()).source
