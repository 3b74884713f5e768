from __future__ import annotations

import pytest

from vqi.detectors.settings import method_names
from vqi.platform.errors import BadInput
from vqi.tools.describe import describe, describe_all


@pytest.mark.parametrize("name", method_names())
def test_everything_about_a_method_is_documented(name: str) -> None:
    method = describe(name)
    assert method.summary
    assert "arXiv" in method.paper
    for setting in method.settings:
        assert len(setting.meaning) > 3, f"{name}.{setting.name} has no meaning"
        assert setting.source, f"{name}.{setting.name} does not say where its default comes from"
        assert (
            setting.choices or setting.type in ("text", "true or false") or None not in (setting.low, setting.high)
        ), f"{name}.{setting.name}"
    assert (method.kind == "memory") == (method.budget is None)


def test_settings_are_described_with_their_limits() -> None:
    settings = {setting.name: setting for setting in describe("padim").settings}
    assert (settings["channels"].type, settings["channels"].default, settings["channels"].allowed) == (
        "whole number",
        100,
        "whole number, 0 to 4096",
    )
    assert settings["reduction"].allowed == "one of orthogonal, pick"
    assert {method.name: method.kind for method in describe_all()}["vgg_cam"] == "supervised"


def test_a_near_name_is_a_hint() -> None:
    with pytest.raises(BadInput, match="Did you mean 'padim'"):
        describe("padm")
