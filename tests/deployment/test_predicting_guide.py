"""The code of docs/predicting.md runs as it stands, one block after the other, beside a bundle and two photographs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from toy_bundle import photograph
from vqi.dataset.image_statistics import EXAMINED, STATISTICS
from vqi.deployment.prediction_record import PredictionsRecord, read_predictions

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "predicting.md"


def test_the_guides_code_runs(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bundle").symlink_to(toy_bundle)
    (tmp_path / "photos").mkdir()
    for number in range(2):
        Image.fromarray(photograph(number, defect=number == 1)).save(tmp_path / "photos" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/predicting.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "photos/0.png good" in printed
    assert "photos/1.png defect" in printed
    assert "photos/0.png\nphotos/1.png\nfrom memory\n" in printed
    assert "image 0\ncamera 2\n" in printed
    assert read_predictions(tmp_path / "inspected") == names["summary"]
    assert len(list((tmp_path / "inspected").rglob("*.tiff"))) == 3


def test_the_guide_names_the_format_and_how_many_are_examined() -> None:
    text = GUIDE.read_text()
    assert f"`{PredictionsRecord.format_name}`" in text
    assert f"at most {EXAMINED} of those" in text
    assert len(STATISTICS) == 9
    assert "nine figures" in text
