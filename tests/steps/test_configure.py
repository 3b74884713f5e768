from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import pytest

from vqi.category import Category
from vqi.placement import COMPACT_STEPS, CONFIGURABLE, DEVICE_STEPS, POOLS
from vqi.platform.errors import BadInput
from vqi.steps.configure.component import configure as component
from vqi.steps.configure.step import configure, step_settings

IMAGES = {step: {"": f"here/{step}:1", "gaudi": f"here/{step}-gaudi:1"} for step in (*DEVICE_STEPS, "make_bundle")}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source" / "good").mkdir(parents=True)
    (tmp_path / "source" / "good" / "0.png").write_bytes(b"0")
    return tmp_path / "source"


def configured(source: Path, **values: Any) -> dict[str, Any]:
    """The outputs for a category on the filter bank, which needs no weights."""
    values = {"data": {"source": str(source)}, "backbone": {"name": "filterbank"}, **values}
    return configure(Category.parse(values).parameters(), IMAGES)


@pytest.mark.parametrize("pool", POOLS)
def test_outputs_are_those_of_the_face_in_its_order_and_types(source: Path, pool: str) -> None:
    outputs = configured(source, pool=pool)
    fields = get_type_hints(component.python_func)["return"].__annotations__
    assert list(outputs) == list(fields)
    assert all(isinstance(value, get_origin(fields[name]) or fields[name]) for name, value in outputs.items())
    json.dumps(outputs)
    # KFP cannot parse an empty quantity.
    placements = [value for name, value in outputs.items() if name.endswith("_placement")]
    assert len(placements) == len(CONFIGURABLE) + len(COMPACT_STEPS)
    for placement in placements:
        assert {"cpu_request", "cpu", "memory"} <= set(placement)
        assert all(value for name, value in placement.items() if name != "accelerator")


def test_images_are_the_variant_s(source: Path) -> None:
    assert configured(source, pool="xeon")["train_placement"]["image"] == "here/train:1"
    assert configured(source, pool="gaudi")["evaluate_placement"]["image"] == "here/evaluate-gaudi:1"


def test_the_log_lists_what_every_step_gets(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    configured(source, pool="gaudi", train={"processes": 2}, resources={"export": {"memory": "6Gi"}})
    captured = capsys.readouterr().err
    assert "train: gaudi nodes, cpu 12, memory 32Gi, 2 habana.ai/gaudi\n" in captured
    assert "export: any but Gaudi nodes, cpu 4, memory 6Gi\n" in captured


def test_a_local_run_reports_that_only_the_device_counts(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    configured(source)
    assert capsys.readouterr().err == ""
    configured(source, pool="xeon")
    assert "only the device is taken, which is cpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("slip", "sentence"),
    [
        ({"pool": "goudi"}, "Did you mean 'gaudi'?"),
        ({"resources": "{train: 4}"}, "resources is '{train: 4}', which is not JSON"),
        ({"resources": '{"train": {"cpu": "lots"}}'}, "write cores"),
        ({"train_max_steps": 2.5}, "train.max_steps"),
        ({"image_size": "big"}, "height and width"),
        ({"pool": "gaudi", "compute_device": "cpu"}, "leave compute.device at auto"),
    ],
)
def test_a_slip_in_the_form_ends_the_first_step_with_one_line(
    slip: dict, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        component.python_func(images=json.dumps(IMAGES), **(Category().parameters() | slip))
    assert ended.value.code == BadInput.exit_code
    captured = capsys.readouterr().err
    assert sentence in captured
    assert captured.count("\n") == 1


@pytest.mark.parametrize(
    "where",
    [{"compute": {"device": "cpu", "precision": "float16"}}, {"pool": "xeon", "compute": {"precision": "float16"}}],
)
def test_training_in_float16_on_processors_is_refused_in_the_first_step(source: Path, where: dict) -> None:
    with pytest.raises(BadInput, match=r"compute.precision is float16 and stfpm trains, .*use bfloat16 or float32"):
        Category.parse({"method": {"name": "stfpm"}, **where})
    # What is not trained runs in any precision, and so does training where an accelerator may be.
    outputs = configured(source, method={"name": "patchcore"}, **where)
    assert outputs["train_settings"]["compute"]["device"] == "cpu"
    assert (
        Category.parse({"method": {"name": "stfpm"}, "compute": {"precision": "float16"}}).compute.precision
        == "float16"
    )


def test_each_step_gets_what_it_reads_and_no_more(source: Path) -> None:
    category = Category.parse({"data": {"source": str(source)}, "backbone": {"name": "filterbank"}, "seed": 7})
    settings = step_settings(category)
    compute = {"device": "auto", "engine": "auto", "precision": "float32", "batch_size": 8}
    assert settings["build_index"] == {"compute": {**compute, "shards": 1}}
    assert settings["export"] == {"export": category.export.model_dump(mode="json"), "tracking_uri": ""}
    assert settings["train"]["seed"] == settings["ingest"]["seed"] == 7
    # A training is the same in every comparison, and a Dataset the same for every size of the network's input.
    assert "comparison" not in settings["train"]["tracking"]
    assert not {"size", "geometry"} & (set(settings["ingest"]) | set(settings["ingest"]["pixels"]))
    # KFP hands 2.0 on as 2 and has no None.
    assert "null" not in json.dumps(settings)


def test_what_a_step_gets_is_read_as_the_category_has_it(source: Path) -> None:
    import importlib

    from vqi.platform.settings import read_settings

    category = Category.parse(
        {
            "data": {"source": str(source), "calibration_fraction": 0.25},
            "image": {"size": [64, 96], "crop": [64, 64], "region": [0, 0, 500, 400], "white_level": 4095},
            "backbone": {"name": "filterbank", "layers": ["octave1"]},
            "method": {"name": "stfpm"},
            "train": {"max_seconds": 5.0, "processes": 2},
            "threshold": {"false_reject_rate": 0.05},
        }
    )
    for step, values in step_settings(category).items():
        # As a protobuf's Struct hands numbers on.
        handed = json.loads(json.dumps(values), parse_int=float)
        model = importlib.import_module(f"vqi.steps.{step}.settings").StepSettings
        settings = read_settings(model, handed)
        own = model.of(category)
        assert settings.model_copy(update={"listing": "", "inputs": ""} if step in ("ingest", "train") else {}) == own


def test_a_changed_photograph_changes_ingest_s_settings_alone(source: Path) -> None:
    before = configured(source)
    assert configured(source) == before
    os.utime(source / "good" / "0.png", ns=(0, 0))
    after = configured(source)
    assert {name for name in before if before[name] != after[name]} == {"ingest_settings"}


def test_other_weights_at_the_same_address_change_train_s_settings_alone(source: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"1")
    backbone = {"name": "resnet18", "weights": str(weights)}
    before = configured(source, backbone=backbone)
    weights.write_bytes(b"12")
    after = configured(source, backbone=backbone)
    assert {name for name in before if before[name] != after[name]} == {"train_settings"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"data": {"source": "/nowhere/at-all"}}, "The source /nowhere/at-all does not exist"),
        ({"data": {"source": ""}}, "data_source is empty"),
        ({"backbone": {"weights": "/nowhere/weights.pth"}}, "backbone.weights is '/nowhere/weights.pth', and nothing"),
        (
            {"method": {"name": "draem", "settings": {"textures": "/nowhere/textures"}}},
            "method.settings.textures is '/nowhere/textures', and nothing",
        ),
    ],
)
def test_what_is_not_there_ends_the_first_step(source: Path, values: dict, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        configured(source, **values)


@pytest.mark.parametrize("text", ["a{{b", "$(HOME)", "a\x07b", "part-\U0001f600"])
def test_text_that_a_cluster_would_change_is_refused_there(
    source: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    parameters = Category.parse({"data": {"source": str(source)}, "backbone": {"name": "filterbank"}}).parameters()
    changed = parameters | {"data_mask_suffix": text}
    configure(changed, IMAGES)  # on this machine nothing changes it
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(BadInput, match=r"data_mask_suffix holds .*, which Kubeflow Pipelines does not hand on"):
        configure(changed, IMAGES)


def test_the_shards_are_the_index_s_alone(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"0")
    category = Category.parse(
        {"compute": {"shards": 3}, "data": {"source": str(tmp_path)}, "backbone": {"name": "filterbank"}}
    )
    outputs = configure(category.parameters(), IMAGES)
    assert [each["shard"] for each in outputs["shards"]] == [0, 1, 2]
    assert all(each["compute"]["shards"] == 3 for each in outputs["shards"])
    assert outputs["build_index_settings"]["compute"]["shards"] == 3
    # In another number of shards the other steps come from KFP's cache.
    for step in ("ingest", "train", "evaluate", "export"):
        assert "'shards': 3" not in str(outputs[f"{step}_settings"])


def test_a_method_that_is_not_fitted_in_parts_is_refused() -> None:
    with pytest.raises(BadInput, match=r"compute\.shards is 2, but padim computes its index in one task"):
        Category.parse({"compute": {"shards": 2}, "method": {"name": "padim"}})
