import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from step_calls import build_index, ingest, train
from vqi.batches.scoring import score_samples
from vqi.dataset.geometry import Geometry
from vqi.dataset.manifest import MANIFEST, read_manifest
from vqi.dataset.reader import Dataset
from vqi.detectors.compute import to_device
from vqi.detectors.settings import BackboneSettings
from vqi.detectors.storage import load_detector, load_for_scores
from vqi.evaluation.calibration import read_calibration
from vqi.evaluation.thresholds import calibrate
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput
from vqi.training.record import read_network_notes

GEOMETRY = Geometry(size=(64, 64))
COMPUTE = Compute(batch_size=4)


def photographs_in(folder: Path, seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    for part, count in (("train/good", 8), ("test/good", 2), ("test/spot", 2)):
        (folder / part).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(80, 120, (70, 90, 3)).astype(np.uint8)
            if part == "test/spot":
                pixels[20:40, 20:40] = (255, 0, 255)
            Image.fromarray(pixels).save(folder / part / f"{number}.png")
    return folder


def dataset_of(folder: Path, name: str, fraction: float, seed: int = 0) -> Path:
    source = photographs_in(folder / f"{name}_photographs", seed)
    ingest(
        name=name,
        source=str(source),
        layout="mvtec",
        mask_suffix="_mask",
        calibration_fraction=fraction,
        seed=0,
        dataset=folder / name,
    )
    return folder / name


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return dataset_of(tmp_path_factory.mktemp("data"), "parts", 0.0)


def artefacts(dataset: Path, folder: Path, method: str = "patchcore", **backbone) -> tuple[Path, Path]:
    network, index = folder / "network", folder / "index"
    settings = BackboneSettings(**(backbone or {"name": "filterbank"}))
    train(
        dataset=dataset,
        method=method,
        settings={},
        backbone=settings,
        geometry=GEOMETRY,
        compute=COMPUTE,
        seed=0,
        network=network,
    )
    build_index(dataset=dataset, network=network, compute=COMPUTE, index=index)
    return network, index


def scores_of(dataset: Path, network: Path, index: Path) -> list[tuple[str, float, np.ndarray]]:
    data, detector = Dataset(dataset), load_for_scores(network, index, COMPUTE)
    return [
        (s.path, score, values)
        for s, score, values in score_samples(detector, data, data.samples("test"), GEOMETRY, COMPUTE)
    ]


def test_defects_score_higher_and_refits_calibrate(dataset, tmp_path):
    network, index = artefacts(dataset, tmp_path)
    scores = {path: score for path, score, _ in scores_of(dataset, network, index)}
    assert min(score for path, score in scores.items() if "spot" in path) > max(
        score for path, score in scores.items() if "good" in path
    )
    calibration = json.loads((index / "calibration.json").read_text())
    assert (calibration["kind"], calibration["folds"]) == ("cross", 8)
    assert [image["path"] for image in calibration["images"]] == [
        sample.path for sample in Dataset(dataset).samples("train")
    ]
    assert all(image["score"] > 0 and image["map_max"] > 0 for image in calibration["images"])
    notes = read_network_notes(network)
    assert notes.dataset_fingerprint == Dataset(dataset).manifest.fingerprint
    assert notes.geometry == GEOMETRY


def test_nothing_is_promised_where_copies_cannot_be_told_from_like_parts(dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "dataset")
    manifest = replace(read_manifest(dataset), copies_cross=True)
    (tmp_path / "dataset" / MANIFEST).write_text(manifest.to_json())
    _, index = artefacts(tmp_path / "dataset", tmp_path)
    threshold = calibrate(read_calibration(index), 0.1)
    assert (threshold.kind, threshold.false_reject_rate) == ("seen", None)
    assert "name each part with data.group" in threshold.guarantee


def test_what_was_cut_from_an_index_is_known_after_loading(dataset, tmp_path):
    network, index = artefacts(dataset, tmp_path)
    assert load_detector(network, index).build_notes == []
    value = json.loads((index / "index.json").read_text())
    (index / "index.json").write_text(json.dumps(value | {"notes": ["The coreset was cut."]}))
    assert load_detector(network, index).build_notes == ["The coreset was cut."]


def test_a_calibration_split_is_scored_by_the_detector_itself(tmp_path):
    dataset = dataset_of(tmp_path, "parts", 0.25)
    network, index = artefacts(dataset, tmp_path)
    calibration = json.loads((index / "calibration.json").read_text())
    data, detector = Dataset(dataset), load_for_scores(network, index, COMPUTE)
    held_out = data.samples("calibration")
    assert (calibration["kind"], calibration["folds"]) == ("split", None)
    expected = [
        {
            "path": sample.path,
            "group": sample.sha256,
            "score": score,
            "map_max": float(values.max()),
            "map_median": float(np.sort(values, axis=None)[(values.size - 1) // 2]),
        }
        for sample, score, values in score_samples(detector, data, held_out, GEOMETRY, COMPUTE)
    ]
    assert calibration["images"] == expected


def test_a_part_that_was_learnt_from_does_not_calibrate(tmp_path):
    """Ingest keeps parts together; a Dataset made by other means may not."""
    dataset = dataset_of(tmp_path, "parts", 0.25)
    manifest = Dataset(dataset).manifest
    train_part = next(sample for sample in manifest.samples if sample.split == "train").sha256
    held_out = [sample.path for sample in manifest.samples if sample.split == "calibration"]
    for torn, kind, left in ((held_out[:1], "split", held_out[1:]), (held_out, "seen", held_out)):
        samples = tuple(replace(s, group=train_part if s.path in torn else "") for s in manifest.samples)
        changed = replace(manifest, samples=samples)
        (dataset / "manifest.json").write_text(changed.to_json())
        _, index = artefacts(dataset, tmp_path / kind)
        calibration = json.loads((index / "calibration.json").read_text())
        assert (calibration["kind"], [image["path"] for image in calibration["images"]]) == (kind, left)


@pytest.mark.slow
def test_two_processes_give_the_same_scores_bit_for_bit(dataset, tmp_path):
    network, index = artefacts(dataset, tmp_path, weights="random")
    code = f"""
import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
from pathlib import Path
import numpy as np
from test_train_and_index import artefacts, scores_of
folder = Path({str(tmp_path)!r}) / "second"
folder.mkdir()
dataset = Path({str(dataset)!r})
scores = scores_of(dataset, *artefacts(dataset, folder, weights="random"))
np.savez(folder / "scores.npz", *[item for _, score, values in scores for item in (score, values)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    second = np.load(tmp_path / "second" / "scores.npz")
    first = [item for _, score, values in scores_of(dataset, network, index) for item in (score, values)]
    assert all(np.array_equal(mine, second[f"arr_{number}"]) for number, mine in enumerate(first))
    for file in ("index/calibration.json", "index/index.safetensors", "network/network.safetensors"):
        assert (tmp_path / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


WITHOUT_TORCH = """
import json, sys
from pathlib import Path
sys.modules["torch"] = sys.modules["torchvision"] = None
from step_calls import build_index
from vqi.batches.scoring import score_samples
from vqi.dataset.geometry import Geometry
from vqi.dataset.reader import Dataset
from vqi.detectors.storage import load_for_scores
from vqi.platform.devices import Compute
import vqi.steps.evaluate.step

dataset, network, index = map(Path, sys.argv[1:])
compute = Compute(device="cpu", batch_size=4)
build_index(dataset=dataset, network=network, compute=compute, index=index)
data = Dataset(dataset)
detector = load_for_scores(network, index, compute)
scored = score_samples(detector, data, data.samples("test"), Geometry(size=(64, 64)), compute)
print(json.dumps([[sample.path, score, float(values.max())] for sample, score, values in scored]))
"""


@pytest.mark.parametrize("method", ["patchcore", "padim", "dfm"])
def test_what_an_engine_runs_is_built_and_scored_without_torch(dataset, tmp_path, method):
    """As torch does it, to rounding."""
    network, index = artefacts(dataset, tmp_path, method=method)
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_TORCH, str(dataset), str(network), str(tmp_path / "other")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "other" / "index.safetensors").read_bytes() == (index / "index.safetensors").read_bytes()
    data, detector = Dataset(dataset), to_device(load_detector(network, index), COMPUTE)
    expected = score_samples(detector, data, data.samples("test"), GEOMETRY, COMPUTE)
    for (path, score, highest), (sample, wanted, values) in zip(json.loads(done.stdout), expected, strict=True):
        assert path == sample.path
        assert score == pytest.approx(wanted, rel=1e-5)
        assert highest == pytest.approx(float(values.max()), rel=1e-5)


def test_an_index_for_another_dataset_is_refused(dataset, tmp_path):
    network, _ = artefacts(dataset, tmp_path)
    other = dataset_of(tmp_path, "other", 0.0, seed=1)
    with pytest.raises(BadInput, match="trained on another Dataset"):
        build_index(dataset=other, network=network, compute=COMPUTE, index=tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_an_unknown_method_or_setting_leaves_nothing(dataset, tmp_path):
    for method, settings, words in (
        ("patchcor", {}, "Did you mean 'patchcore'"),
        ("patchcore", {"ratio": 1}, "method.settings.ratio"),
    ):
        with pytest.raises(BadInput, match=words):
            train(
                dataset=dataset,
                method=method,
                settings=settings,
                backbone=BackboneSettings(name="filterbank"),
                geometry=GEOMETRY,
                compute=COMPUTE,
                seed=0,
                network=tmp_path / "network",
            )
    assert not (tmp_path / "network").exists()


def test_training_in_float16_on_a_processor_is_refused_before_it_begins(dataset, tmp_path):
    with pytest.raises(BadInput, match="float16 and stfpm trains, which is many times slower on processors"):
        train(
            dataset=dataset,
            method="stfpm",
            settings={},
            backbone=BackboneSettings(name="filterbank"),
            geometry=GEOMETRY,
            compute=Compute(device="cpu", precision="float16"),
            seed=0,
            network=tmp_path / "network",
        )
    assert not (tmp_path / "network").exists()
