from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from vqi.category import Category, choices, fields
from vqi.platform.errors import BadInput
from vqi_pipelines.catalog import load_category

CATALOG = Path(__file__).resolve().parents[2] / "pipelines" / "catalog"


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VQI_CATALOG", str(tmp_path))
    (tmp_path / "gear.yaml").write_text(
        "data:\n  source: s3://photos/gear\nmethod:\n  name: padim\n  settings: {channels: 50}\n"
    )
    return tmp_path


@pytest.mark.parametrize("path", sorted(CATALOG.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_category_of_the_catalog_parses(path: Path) -> None:
    category = Category.parse(yaml.safe_load(path.read_text()), path.name)
    assert category.name == path.stem


def test_a_file_and_overrides(catalog: Path) -> None:
    category = load_category(
        "gear", ["method.settings.channels=70", "image.size=[224, 320]", "data.calibration_fraction=0", "seed=3"]
    )
    assert category.name == "gear"
    assert category.data.source == "s3://photos/gear"
    assert category.method_settings["channels"] == 70
    assert category.geometry.size == (224, 320)
    assert (category.data.calibration_fraction, category.seed) == (0.0, 3)


def test_resources_step_by_step(catalog: Path) -> None:
    category = load_category(
        "gear", ["pool=xeon", "resources.train.cpu=8", "resources.train.memory=16Gi", "resources.export={cpu: 0.5}"]
    )
    assert category.step_placements["train"].cpu == "8"
    assert json.loads(str(category.parameters()["resources"])) == {
        "train": {"cpu": "8", "memory": "16Gi"},
        "export": {"cpu": "0.5"},
    }


def test_no_file_is_needed_where_the_overrides_are_complete(catalog: Path) -> None:
    category = load_category("bolt", ["data.source=photos", "method.name=dfm"])
    assert (category.name, category.method.name) == ("bolt", "dfm")


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("gaer", [], "Did you mean 'gear'?"),
        ("missing/file.yaml", [], "does not exist"),
        ("gear", ["method.nmae=dfm"], "Did you mean 'method.name'?"),
        ("gear", ["method.name"], "path=value"),
        ("gear", ["method.name=patchcor"], "Did you mean 'patchcore'?"),
        ("gear", ["method.settings.chanels=3"], "Did you mean 'channels'?"),
        ("gear", ["method.settings.channels=many"], "must be a whole number"),
        ("gear", ["method.settings.channels=-1"], "must lie between"),
        ("gear", ["data.labelled_fraction=1"], "between 0 and 0.9"),
        ("gear", ["data.layout=mvtc"], "Did you mean 'mvtec'?"),
        ("gear", ["image.size=big"], "height and width"),
        ("gear", ["image.size=[256, 8]"], "between 32 and 16384"),
        ("gear", ["image.crop=[300, 300]"], "at most those of image.size"),
        ("gear", ["compute.device=gpu"], "must be one of"),
        ("gear", ["pool=guadi"], "Did you mean 'gaudi'?"),
        ("gear", ["pool=gaudi", "compute.device=cpu"], "pool is gaudi, but compute.device is 'cpu'"),
        ("gear", ["resources=lots"], "--set resources takes a mapping"),
        ("gear", ["resources.trian.cpu=4"], "Did you mean 'train'?"),
        ("gear", ["resources.train.cpu=four"], "write cores"),
        ("gear", ["resources.train.memory=8"], "which is 8 bytes"),
        ("gear", ["threshold.false_reject_rate=1.5"], "between 0 and 1, both excluded"),
        ("gear", ["backbone.std=[0, 1, 1]"], "above 0"),
        ("gear", ["backbone.sha256=abc"], "backbone.sha256 must be the 64 hexadecimal digits"),
        ("gear", ["seed=1.5"], "seed is 1.5; it must be a whole number"),
        ("gear", ["seed=true"], "seed is 'True'; it must be a whole number"),
        ("gear", ["data.labelled_fraction=no"], "data.labelled_fraction is 'False'; it must be a number"),
        ("gear", ["image.region=1,2"], "image.region must be four whole numbers"),
        ("gear", ["backbone.mean=1,2"], "backbone.mean must be three numbers"),
        ("gear", ["tracking.experiment="], "tracking.experiment is '': it should have at least 1 character"),
        ("gear", ["name=../escape"], "letters, digits"),
        ("gear", ["data.source={a: 1}"], "data.source"),
    ],
)
def test_bad_input_is_one_sentence(catalog: Path, name: str, overrides: list[str], sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_category(name, overrides)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a\n- b\n", "must be a mapping"),
        ("data: [\n", "not readable YAML"),
        ("data: 3\n", "data"),
        ("datta:\n  source: x\n", "Did you mean 'data'?"),
    ],
)
def test_a_bad_file_is_one_sentence(catalog: Path, text: str, sentence: str) -> None:
    (catalog / "bad.yaml").write_text(text)
    with pytest.raises(BadInput) as caught:
        load_category("bad")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parameters_and_back() -> None:
    category = Category.parse(
        {
            "name": "a",
            "data": {"source": "x", "calibration_fraction": 0.0, "labelled_fraction": 0.3},
            "image": {"size": [256, 320], "crop": [224, 224], "region": [1, 2, 300, 400]},
            "backbone": {"layers": ["layer2", "layer3"], "mean": [0.5, 0.5, 0.5]},
            "method": {"name": "padim", "settings": {"channels": 7}},
            "pool": "gaudi",
            "resources": {"train": {"cpu": "4", "memory": "8Gi"}, "export": {"cpu": "500m"}},
        }
    )
    assert Category.from_parameters(category.parameters()) == category
    # KFP hands every number over as a float.
    floats = {key: float(value) if isinstance(value, int) else value for key, value in category.parameters().items()}
    assert Category.from_parameters(floats) == category


def test_every_choice_is_a_parameter() -> None:
    assert set(choices()) <= set(Category().parameters())
    assert {key.replace(".", "_", 1) for key in fields()} == set(Category().parameters())


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("photos/bolt", "bolt"),
        ("photos/bolt/", "bolt"),
        ("s3://photos/M4 bolt.tar.gz", "M4-bolt"),
        ("nut.v2.zip", "nut.v2"),
        ("/", "category"),
    ],
)
def test_a_category_without_a_name_takes_that_of_its_photographs(source: str, name: str) -> None:
    assert load_category("", [f"data.source={source}"]).name == name


def test_neither_category_nor_source_is_one_sentence() -> None:
    with pytest.raises(
        BadInput, match=r"Name a category of the catalog with --category, or photographs with --set data.source"
    ):
        load_category("", ["seed=1"])
