"""The native program scores whole bundles as Python does. Those of every method are in steps/test_every_method.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from every_method import BACKBONE, COMPUTE, small, write_parts
from native_program import check_native
from step_calls import build_index, evaluate, export, ingest, train
from vqi.dataset.geometry import Geometry
from vqi.deployment.bundle import read_sidecar
from vqi.detectors.settings import BackboneSettings
from vqi.platform.devices import Compute


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set whose pixels are not those of its files: some are turned by EXIF, some grey."""
    folder = tmp_path_factory.mktemp("native")
    source = write_parts(folder / "parts")
    for number, path in enumerate(sorted(source.rglob("*.png"))):
        with Image.open(path) as image:
            image.load()
        if number % 4 == 1:
            path.unlink()
            image.save(path.with_suffix(".jpg"), quality=92)
        elif number % 4 == 2:
            tags = Image.Exif()
            tags[0x0112] = 3
            image.transpose(Image.Transpose.ROTATE_180).save(path, exif=tags)
    ingest(name="parts", source=str(source), layout="mvtec", labelled_fraction=0.6, seed=0, dataset=folder / "dataset")
    return folder / "dataset"


def photographs_of(dataset: Path) -> list[Path]:
    return sorted(path for path in (dataset.parent / "parts" / "test").rglob("*.*") if path.suffix in (".png", ".jpg"))


def make_bundle(
    dataset: Path,
    folder: Path,
    method: str,
    geometry: Geometry,
    formats: tuple[str, ...] = ("openvino",),
    backbone: BackboneSettings = BACKBONE,
    compute: Compute = COMPUTE,
    settings: dict[str, object] | None = None,
) -> Path:
    paths = {name: folder / name for name in ("network", "index", "evaluation", "bundle")}
    train(
        dataset=dataset,
        method=method,
        settings=small(method) if settings is None else settings,
        backbone=backbone,
        geometry=geometry,
        compute=compute,
        seed=0,
        network=paths["network"],
    )
    build_index(dataset=dataset, network=paths["network"], compute=compute, index=paths["index"])
    evaluate(
        dataset=dataset,
        network=paths["network"],
        index=paths["index"],
        false_reject_rate=0.1,
        compute=compute,
        tracking_uri="",
        evaluation=paths["evaluation"],
        report=folder / "report.html",
    )
    export(dataset=dataset, tolerance=1e-3, formats=formats, **paths)
    return paths["bundle"]


def test_tiles_an_area_a_region_and_rounded_weights(dataset: Path, tmp_path: Path) -> None:
    geometry = Geometry(size=(96, 128), region=(4, 2, 78, 70), tile=(64, 64), area="8,0 80,0 80,72 8,72")
    bundle = make_bundle(dataset, tmp_path, "patchcore", geometry, formats=("openvino", "openvino-fp16"))
    assert check_native(bundle, photographs_of(dataset)) > 0
    assert check_native(bundle, photographs_of(dataset), "openvino-fp16") > 0


def test_a_search_by_pre_selection(dataset: Path, tmp_path: Path) -> None:
    """A bank that is large enough: what is compared is the shortcut, where this processor takes it."""
    bundle = make_bundle(dataset, tmp_path, "patchcore", Geometry(size=(128, 128)), settings={"coreset_ratio": 0.5})
    (bank,) = read_sidecar(bundle).graph.index
    assert bank.shape[0] >= 256
    check_native(bundle, photographs_of(dataset))


@pytest.mark.photographs
def test_a_bundle_of_real_cookies(photographs: Path, imagenet_resnet18: Path, tmp_path: Path) -> None:
    """JPEGs with a colour profile, at full size; ImageNet's weights."""
    source = tmp_path / "cookies"
    for part, count in (("train/good", 8), ("test/good", 3), ("test/broken", 4)):
        (source / part).mkdir(parents=True)
        for path in sorted((photographs / "cookie" / part).glob("*.jpg"))[:count]:
            shutil.copy(path, source / part)
    ingest(name="cookie", source=str(source), layout="mvtec", seed=0, dataset=tmp_path / "dataset")
    bundle = make_bundle(
        tmp_path / "dataset",
        tmp_path,
        "patchcore",
        Geometry(size=(256, 256)),
        backbone=BackboneSettings(weights=str(imagenet_resnet18)),
        settings={"coreset_ratio": 0.05},
    )
    assert json.loads((bundle / "bundle.json").read_text())["preprocessing"]["decoding"]["profiles"]
    assert check_native(bundle, sorted((source / "test").rglob("*.jpg"))) > 0
