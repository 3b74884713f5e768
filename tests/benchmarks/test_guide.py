"""The guide is what its script makes of the measurements that are kept beside it, and its prose holds no number that
was not measured."""

from __future__ import annotations

import json
import re

import pytest
from choosing_a_method import GUIDE, PLANS, RESULTS, SETS, left_out, nested
from guide_text import HEAD, METHODS, UNTRAINED, guide

from vqi.category import Category
from vqi.detectors.settings import method_names

NAMES = ("ResNet-18", "EfficientNet-B5", "MobileNetV2")


def test_the_page_is_what_the_measurements_give() -> None:
    assert GUIDE.read_text(encoding="utf-8") == guide(json.loads(RESULTS.read_text(encoding="utf-8")), left_out())


def test_every_method_has_a_plan_and_a_text() -> None:
    assert sorted(PLANS) == sorted(METHODS) == method_names()


def test_the_prose_holds_no_numbers() -> None:
    for text in (*HEAD, UNTRAINED, *METHODS.values()):
        for name in NAMES:
            text = text.replace(name, "")
        assert not re.search(r"\d", text), text


@pytest.mark.parametrize(("method", "name"), [(method, name) for method, plan in PLANS.items() for name in plan.sets])
def test_plans_are_valid(method: str, name: str) -> None:
    assert name in SETS
    Category.parse(nested({**PLANS[method].of(name), "method.name": method, "data.source": "photographs"}))


def test_leaders_are_ranked_by_the_figures() -> None:
    def result(auroc: float, milliseconds: float, **settings: object) -> dict[str, object]:
        return {
            "settings": settings,
            "metrics": {"image_auroc": auroc, "pixel_auroc": auroc, "aupro": None},
            "counts": {"good": 3, "defect": 4},
            "fit": {"processor_seconds": 10 * milliseconds},
            "peak_mib": 100.0,
            "latency_ms": {"onnxruntime": milliseconds, "openvino": milliseconds + 1},
            "bundle_mib": 20.0,
            "weights": "w",
            "machine": {"processor": "p", "threads": 1, "date": "2026-01-01"},
        }

    page = guide(
        {
            "padim/cookie": result(0.9, 30),
            "dfm/cookie": result(0.95, 20),
            "draem/cookie": result(0.5, 1, **{"image.size": 64}),
        },
        {},
    )
    assert "**Highest image AUROC**, mean over cookie: dfm (.950), padim (.900), draem (.500)." in page
    assert "at one image size: dfm (20 ms), padim (30 ms)." in page
    assert page.index("| dfm |") < page.index("| padim |") < page.index("| draem |")
    assert "Left out: cflow" in page


def test_what_training_gives_stands_beside_one_step() -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    stfpm = results["stfpm/cookie"] | {"metrics": {"image_auroc": 0.9, "pixel_auroc": 0.896, "aupro": 0.7}}
    worse = results["cflow/cookie"] | {
        "metrics": {"image_auroc": 0.9, "pixel_auroc": 0.8, "aupro": 0.7},
        "untrained": {"pixel_auroc": 0.85},
    }
    page = guide({"stfpm/cookie": stfpm | {"untrained": {"pixel_auroc": 0.755}}, "cflow/cookie": worse}, {})
    assert "| stfpm | cookie | .755 | .896 | +.141 |" in page
    assert "| cflow | cookie | .850 | .800 | -.050 |" in page
