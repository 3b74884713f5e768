"""A page that is chosen is read by ingest, by the check and by the bundle."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from photograph_folders import write_files
from step_calls import ingest
from vqi.dataset.decoding import Decoding
from vqi.dataset.reader import Dataset
from vqi.deployment.bundle import read_sidecar, write_sidecar
from vqi.deployment.predictor import Prediction, Predictor, read_photograph


def two_pages(number: int) -> bytes:
    """An even page, and one of noise."""
    noise = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (9, 9, 9)).save(out, "TIFF", save_all=True, append_images=[Image.fromarray(noise)])
    return out.getvalue()


def test_a_dataset_reads_the_page_that_was_chosen(tmp_path: Path) -> None:
    source = write_files(tmp_path / "set", {f"good/{number}.tif": two_pages(number) for number in range(6)})
    fingerprints = set()
    for page in (1, 2):
        folder = tmp_path / f"dataset{page}"
        fingerprints.add(ingest(name="pages", source=str(source), dataset=folder, page=page).fingerprint)
        dataset = Dataset(folder)
        assert dataset.manifest.decoding.page == page
        sample = dataset.manifest.samples[0]
        expected = two_pages(int(Path(sample.path).stem))
        with Image.open(io.BytesIO(expected)) as image:
            image.seek(page - 1)
            assert np.array_equal(dataset.image(sample), np.asarray(image))
    assert len(fingerprints) == 2


def test_a_bundle_reads_the_page_that_was_chosen(tmp_path: Path, toy_bundle: Path) -> None:
    before = (toy_bundle / "bundle.json").read_text()
    assert '"page"' not in before
    sidecar = read_sidecar(toy_bundle)
    decoding = type(sidecar.preprocessing.decoding)(sidecar.decoding.white_level, sidecar.decoding.max_pixels, page=2)
    chosen = sidecar.model_copy(
        update={"preprocessing": sidecar.preprocessing.model_copy(update={"decoding": decoding})}
    )
    shutil.copytree(toy_bundle, tmp_path / "bundle")
    write_sidecar(tmp_path / "bundle", chosen)
    read = read_sidecar(tmp_path / "bundle").decoding
    assert (read.white_level, read.max_pixels, read.page) == (65535, 100_000_000, 2)
    photograph = tmp_path / "photograph.tif"
    photograph.write_bytes(two_pages(3))
    with Image.open(photograph) as image:
        image.seek(1)
        second = np.asarray(image)
    assert np.array_equal(read_photograph(photograph, Decoding(page=2)), second)
    by_file, by_array = (
        Predictor(tmp_path / "bundle", implausible="score").predict_one(source) for source in (photograph, second)
    )
    assert isinstance(by_file, Prediction)
    assert isinstance(by_array, Prediction)
    assert by_file.score == by_array.score
