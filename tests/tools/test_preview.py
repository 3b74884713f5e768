from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from step_calls import ingest
from vqi.dataset.generator import generate
from vqi.dataset.geometry import Geometry
from vqi.detectors.settings import BackboneSettings
from vqi.platform.errors import BadInput
from vqi.tools.preview import Preview, _is_picture, preview


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    generate(folder / "source", seed=2, normals=10, test_normals=4, defects_each=2, size=(96, 96))
    for name, fraction in (("plain", 0.0), ("labelled", 0.5)):
        ingest(
            name="parts",
            source=str(folder / "source"),
            layout="auto",
            mask_suffix="_mask",
            calibration_fraction=0.0,
            labelled_fraction=fraction,
            seed=0,
            dataset=folder / name,
        )
    return folder


def sheet(dataset: Path, method: str, out: Path, seed: int = 0, **settings: object) -> Preview:
    # The weights that are named are not there: views read none.
    backbone = BackboneSettings(weights="nowhere.pth", sha256="0" * 64)
    return preview(
        dataset=dataset,
        method=method,
        settings=settings,
        backbone=backbone,
        geometry=Geometry(size=(64, 64)),
        seed=seed,
        out=out,
    )


def test_views_are_columns_and_the_seed_decides(parts: Path, tmp_path: Path) -> None:
    preview = sheet(parts / "plain", "draem", tmp_path / "a.png", reconstructive_width=4, discriminative_width=4)
    assert preview.columns == ("photograph", "normal", "simulated", "mask")
    sheet(parts / "plain", "draem", tmp_path / "b.png", reconstructive_width=4, discriminative_width=4)
    sheet(parts / "plain", "draem", tmp_path / "c.png", seed=1, reconstructive_width=4, discriminative_width=4)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes() != (tmp_path / "c.png").read_bytes()
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    assert picture.shape[0] > 8 * 64
    assert picture.std() > 20


def test_methods_that_change_nothing_report_it(parts: Path, tmp_path: Path) -> None:
    memory = sheet(parts / "plain", "padim", tmp_path / "padim.png")
    assert memory.columns == ("photograph",)
    assert "nothing by gradient" in memory.sentence
    plain = sheet(parts / "plain", "stfpm", tmp_path / "stfpm.png")
    assert (plain.columns, plain.sentence) == (("photograph",), "stfpm learns from the photographs as they are.")


def test_a_supervised_method_shows_labelled_defects(parts: Path, tmp_path: Path) -> None:
    preview = sheet(parts / "labelled", "vgg_cam", tmp_path / "cam.png")
    assert "labels" in preview.sentence
    colours = {tuple(colour) for colour in np.asarray(Image.open(tmp_path / "cam.png")).reshape(-1, 3)}
    assert {(86, 180, 233), (230, 159, 0)} <= colours
    with pytest.raises(BadInput, match="no labelled defects"):
        sheet(parts / "plain", "vgg_cam", tmp_path / "none.png")


def test_what_is_no_picture_is_not_drawn() -> None:
    assert _is_picture(torch.rand(2, 3, 8, 8), 2)
    assert _is_picture(torch.rand(2, 1, 8, 8), 2)
    for other in (
        torch.rand(2, 3, 8, 8) * 2,
        torch.rand(2, 3, 8, 8) - 0.5,
        torch.rand(2, 4, 8, 8),
        torch.rand(2, 64),
        torch.rand(2, 1, 1, 1),
    ):
        assert not _is_picture(other, 2)
