"""index_part and merge_parts against build_index, on small Datasets with and without a calibration split."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_train_and_index import COMPUTE, GEOMETRY, photographs_in, scores_of

from step_calls import build_index, build_index_in_parts, ingest, train
from vqi.dataset.reader import Dataset
from vqi.detectors.part_storage import PART, PART_TENSORS
from vqi.detectors.settings import BackboneSettings
from vqi.evaluation.calibration import read_calibration
from vqi.platform.errors import BadInput


def trained(folder: Path, fraction: float) -> tuple[Path, Path]:
    """A Dataset of some photographs and the network of patchcore on it."""
    dataset, network = folder / "dataset", folder / "network"
    ingest(
        name="parts",
        source=str(photographs_in(folder / "photographs")),
        layout="mvtec",
        mask_suffix="_mask",
        calibration_fraction=fraction,
        seed=0,
        dataset=dataset,
    )
    train(
        dataset=dataset,
        method="patchcore",
        settings={"coreset_ratio": 0.05},
        backbone=BackboneSettings(name="filterbank"),
        geometry=GEOMETRY,
        compute=COMPUTE,
        seed=0,
        network=network,
    )
    return dataset, network


@pytest.fixture(scope="module", params=[0.0, 0.25], ids=["refits", "calibration split"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Dataset, network, and the index of a single task."""
    folder = tmp_path_factory.mktemp("made")
    dataset, network = trained(folder, request.param)
    build_index(dataset=dataset, network=network, compute=COMPUTE, index=folder / "index")
    return dataset, network, folder / "index"


@pytest.mark.parametrize("shards", [1, 2, 7])
def test_the_index_of_shards_is_that_of_one_task_within_its_bound(
    made: tuple[Path, Path, Path], tmp_path: Path, shards: int
) -> None:
    dataset, network, single = made
    index = tmp_path / "index"
    build_index_in_parts(dataset=dataset, network=network, compute=COMPUTE, index=index, shards=shards)
    first, merged = (load_file(folder / "index.safetensors")["memory_bank"] for folder in (single, index))
    assert merged.shape == first.shape
    (note,) = (each for each in json.loads((index / "index.json").read_text())["notes"] if "merged from" in each)
    bound = float(note.rpartition(" is farther than ")[2].removesuffix(" from it"))
    # Items of the one bank are patches of the normals: the other lies within its bound of each.
    assert float(torch.cdist(first, merged).min(dim=1).values.max()) <= bound * 1.001
    one, other = read_calibration(single), read_calibration(index)
    assert (one.kind, one.folds, one.paths, one.parts) == (other.kind, other.folds, other.paths, other.parts)
    # A distance to the bank differs by the farther of both radii at most; a score is a distance or less.
    assert all(abs(a - b) <= 2 * bound for a, b in zip(one.map_maxima, other.map_maxima, strict=True))
    scores = {path: score for path, score, _ in scores_of(dataset, network, index)}
    assert min(score for path, score in scores.items() if "spot" in path) > max(
        score for path, score in scores.items() if "good" in path
    )
    if shards == 1 and one.kind == "split":
        assert sorted(merged.tolist()) == sorted(first.tolist())


def test_a_refit_knows_nothing_of_the_normals_that_it_scores(tmp_path: Path) -> None:
    """One normal that looks like no other scores as far from the bank as it is, though its shard kept it."""
    dataset, network = trained(tmp_path, 0.0)
    index = tmp_path / "index"
    parts = build_index_in_parts(dataset=dataset, network=network, compute=COMPUTE, index=index, shards=2)
    before = read_calibration(index)
    # The coresets of every fold are replaced by those far away: the normals of that fold alone keep their scores.
    fold_names = [name for name in load_file(parts[0] / PART_TENSORS) if name.startswith("fold0.")]
    fold_names += [name for name in load_file(parts[1] / PART_TENSORS) if name.startswith("fold0.")]
    assert len(before.scores) == len(Dataset(dataset).samples("train", "good"))
    assert len(fold_names) == 1  # eight normals in eight folds: each has its own
    from safetensors.torch import save_file

    from vqi.platform.files import sha256_of

    for part in parts:
        tensors = load_file(part / PART_TENSORS)
        save_file({n: t + 100 if n.startswith("fold0.") else t for n, t in tensors.items()}, part / PART_TENSORS)
        record = json.loads((part / PART).read_text()) | {"tensors_sha256": sha256_of(part / PART_TENSORS)}
        (part / PART).write_text(json.dumps(record))
    from vqi.steps.build_index.settings import StepSettings
    from vqi.steps.build_index.step import build_index as merge

    settings = StepSettings(compute=COMPUTE.model_copy(update={"shards": 2}))
    merge(settings, dataset=dataset, network=network, index=tmp_path / "again", parts=parts)
    after = read_calibration(tmp_path / "again")
    unchanged = [a == b for a, b in zip(before.map_maxima, after.map_maxima, strict=True)]
    assert sum(unchanged) == 1


def test_parts_that_do_not_belong_together_are_refused(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    from vqi.steps.build_index.settings import StepSettings
    from vqi.steps.build_index.step import build_index as merge

    dataset, network, _ = made
    settings = StepSettings(compute=COMPUTE.model_copy(update={"shards": 2}))
    parts = build_index_in_parts(dataset=dataset, network=network, compute=COMPUTE, index=tmp_path / "index", shards=2)

    def refusal(chosen: list[Path]) -> str:
        with pytest.raises(BadInput) as refused:
            merge(settings, dataset=dataset, network=network, index=tmp_path / "refused", parts=chosen)
        assert not (tmp_path / "refused").exists()
        return str(refused.value)

    assert "needs the parts 0 to 1 of 2, and there are 1 of 2" in refusal(parts[1:])
    assert "part.json is missing" in refusal([parts[0], tmp_path / "none"])
    other = shutil.copytree(parts[1], tmp_path / "other")
    record = json.loads((other / PART).read_text())
    (other / PART).write_text(json.dumps(record | {"network_sha256": "0" * 64}))
    assert "another Dataset or network" in refusal([parts[0], other])
    (other / PART).write_text(json.dumps(record))
    (other / PART_TENSORS).write_bytes(b"0" + (other / PART_TENSORS).read_bytes()[1:])
    assert "does not match the hash" in refusal([parts[0], other])
