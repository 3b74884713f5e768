from __future__ import annotations

import json
from typing import get_type_hints

import pytest

from vqi.category import Category
from vqi.placement import DEVICE_STEPS, POOLS
from vqi.platform.errors import BadInput
from vqi.steps.place.component import place as component
from vqi.steps.place.step import place

IMAGES = {step: {"": f"here/{step}:1", "gaudi": f"here/{step}-gaudi:1"} for step in DEVICE_STEPS}


@pytest.mark.parametrize("pool", POOLS)
def test_outputs_are_those_of_the_face_in_its_order_and_types(pool: str) -> None:
    outputs = place(Category.parse({"pool": pool}), IMAGES)
    fields = get_type_hints(component.python_func)["return"].__annotations__
    assert list(outputs) == list(fields)
    assert all(isinstance(value, fields[name]) for name, value in outputs.items())
    json.dumps(outputs)
    # KFP cannot parse an empty quantity.
    assert all(
        value
        for name, value in outputs.items()
        if name.endswith(("_cpu", "_cpu_request", "_memory", "_image", "_accelerators"))
    )


def test_images_are_the_variant_s() -> None:
    assert place(Category.parse({"pool": "xeon"}), IMAGES)["train_image"] == "here/train:1"
    assert place(Category.parse({"pool": "gaudi"}), IMAGES)["evaluate_image"] == "here/evaluate-gaudi:1"


def test_the_log_lists_what_every_step_gets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    place(
        Category.parse({"pool": "gaudi", "train": {"processes": 2}, "resources": {"export": {"memory": "6Gi"}}}), IMAGES
    )
    captured = capsys.readouterr().err
    assert "train: gaudi nodes, cpu 12, memory 32Gi, 2 habana.ai/gaudi\n" in captured
    assert "export: any but Gaudi nodes, cpu 4, memory 6Gi\n" in captured


def test_a_local_run_reports_that_only_the_device_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    place(Category.parse({}), IMAGES)
    assert capsys.readouterr().err == ""
    place(Category.parse({"pool": "xeon"}), IMAGES)
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
def test_training_in_float16_on_processors_is_refused_in_the_first_step(where: dict) -> None:
    with pytest.raises(BadInput, match=r"compute.precision is float16 and stfpm trains, .*use bfloat16 or float32"):
        Category.parse({"method": {"name": "stfpm"}, **where})
    # What is not trained runs in any precision, and so does training where an accelerator may be.
    assert place(Category.parse({"method": {"name": "patchcore"}, **where}), IMAGES)["device"] == "cpu"
    assert (
        Category.parse({"method": {"name": "stfpm"}, "compute": {"precision": "float16"}}).compute.precision
        == "float16"
    )
