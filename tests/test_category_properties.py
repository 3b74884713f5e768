"""Whatever somebody writes as a setting: it becomes a configuration, or one sentence that says what is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import annotated_types
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vqi.category import Category
from vqi.detectors.settings import method_names, parse_settings, settings_class
from vqi.platform.errors import BadInput
from vqi.platform.settings import choices_of, type_of


def key_fields() -> dict[str, FieldInfo]:
    """Every key of a category as `--set` names it."""
    fields: dict[str, FieldInfo] = {}
    for section, field in Category.model_fields.items():
        kind = type_of(field)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields |= {f"{section}.{key}": inner for key, inner in kind.model_fields.items()}
        else:
            fields[section] = field
    return fields


KEYS = key_fields()
DEFAULTS = Category().parameters()
OURS = [name for name in method_names() if settings_class(name).__module__.startswith("vqi.")]
# What is easily written, and what is not.
WORDS = st.sampled_from(
    [
        *("", " ", "auto", "none", "null", "nan", "inf", "-1", "0", "1", "0.5", "1e999", "256", "256,256", "64x64"),
        *("1,2,3", "[256, 256]", "{}", "[]", "{", "true", "cpu", "cuda:0,1", "cuda:", "hpu", "float16", "bfloat16"),
        *("folders", "mvtec", "s3://", "s3://bucket/prefix", "filterbank", "random", "imagenet", "/dev/null", "a/b"),
        *(
            "[" * 2000,
            "(",
            "\0",
            "ü",
            "\ud800",
            "\n",
            "\x1b[31m",
            "9" * 400,
            "patchcore",
            "gaudi",
            '{"train": {"cpu": 4}}',
        ),
        *('{"train": {"cpu": -1}}', '{"coreset_ratio": 2}', '{"coreset_ratio": NaN}', '{"nothing": 1}'),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.sampled_from([10**400, -1, 0, 1])
    | st.floats()
    | WORDS
    | st.text(max_size=20)
)
# A name is printed as it is written, by what escapes it (vqi.platform.printing).
NAMES = (
    st.sampled_from([*KEYS, *(key.rpartition(".")[2] for key in KEYS), "", "train", "cpu", "memory"])
    | st.text(st.characters(exclude_categories=("C", "Z")), max_size=8)
    | st.integers(-2, 2)
    | st.none()
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
# KFP hands over a mapping as text, which is JSON.
SECTIONS = sorted(Category.model_fields)


def made(make: Callable[..., Any], *values: Any) -> Any:
    """What `make` makes of the values, or None where it refuses them in one sentence."""
    try:
        return make(*values)
    except BadInput as error:
        refusal = str(error)
    assert refusal.endswith((".", "?"))
    assert "\n" not in refusal
    assert len(refusal) > 20
    return None


def checked(category: Category) -> None:
    """It comes back from the parameters of a run, as KFP hands them over too: numbers as floats."""
    parameters = category.parameters()
    assert set(parameters) == set(DEFAULTS)
    back = Category.from_parameters(parameters)
    assert back.parameters() == parameters
    through_kfp = json.loads(
        json.dumps(parameters), parse_int=lambda digits: float(digits) if len(digits) < 16 else int(digits)
    )
    assert Category.from_parameters(through_kfp).parameters() == parameters


@pytest.mark.parametrize("name", sorted(DEFAULTS))
@given(value=SCALARS)
def test_any_value_of_a_parameter_is_taken_or_refused_in_one_sentence(name: str, value: Any) -> None:
    if category := made(Category.from_parameters, {name: value}):
        checked(category)


@given(st.dictionaries(st.sampled_from(sorted(DEFAULTS)), SCALARS, max_size=4))
def test_any_parameters_are_taken_or_refused_in_one_sentence(values: dict[str, Any]) -> None:
    if category := made(Category.from_parameters, values):
        checked(category)


@given(
    VALUES
    | st.dictionaries(
        st.sampled_from(SECTIONS) | NAMES,
        VALUES | st.dictionaries(NAMES, VALUES, max_size=3),
        max_size=3,
    )
)
def test_anything_in_a_catalog_file_is_taken_or_refused_in_one_sentence(value: Any) -> None:
    if category := made(Category.parse, value):
        checked(category)


def fitting(field: FieldInfo) -> st.SearchStrategy[Any]:
    """Values inside a field's bounds."""
    kind = type_of(field)
    if allowed := choices_of(field):
        return st.sampled_from(allowed)
    low, high, open_low, open_high = bounds(field)
    if kind is bool:
        return st.booleans()
    if kind is int:
        least = None if low is None else math.ceil(low) + (open_low and low == math.ceil(low))
        most = 2**31 if high is None else math.floor(high) - (open_high and high == math.floor(high))
        return st.integers(least, most)
    if kind is float:
        return st.floats(
            low,
            1e9 if high is None else high,
            exclude_min=open_low,
            exclude_max=open_high,
            allow_nan=False,
        )
    return st.just(field.default)


def bounds(field: FieldInfo) -> tuple[float | None, float | None, bool, bool]:
    """The least and the largest value, and whether each is itself excluded."""
    found: dict[str, float] = {}
    for rule in field.metadata:
        for name in ("ge", "gt", "le", "lt"):
            if isinstance(rule, getattr(annotated_types, name.capitalize())):
                found[name] = float(getattr(rule, name))
    return (
        found.get("ge", found.get("gt")),
        found.get("le", found.get("lt")),
        "gt" in found,
        "lt" in found,
    )


def outside(field: FieldInfo) -> list[float]:
    """The nearest values that a field's bounds exclude."""
    low, high, open_low, open_high = bounds(field)
    step = 1.0 if type_of(field) is int else 0.0
    values = []
    if low is not None:
        values.append(low if open_low else low - step if step else math.nextafter(low, -math.inf))
    if high is not None:
        values.append(high if open_high else high + step if step else math.nextafter(high, math.inf))
    return values


@pytest.mark.parametrize("method", OURS)
@given(data=st.data())
def test_a_methods_settings_inside_their_bounds_are_taken_and_come_back(method: str, data: st.DataObject) -> None:
    fields = settings_class(method).model_fields
    chosen = data.draw(st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True))
    values = {name: data.draw(fitting(fields[name]), label=name) for name in chosen}
    # Some settings bound each other.
    settings = made(parse_settings, method, values)
    assume(settings is not None)
    assert {name: getattr(settings, name) for name in values} == values
    assert parse_settings(method, settings.model_dump()) == settings
    parameters = Category.parse({"method": {"name": method, "settings": values}}).parameters()
    back = Category.from_parameters(parameters)
    assert parse_settings(method, back.method.settings) == settings


@pytest.mark.parametrize("method", OURS)
def test_a_methods_bounds_are_where_they_are_stated(method: str) -> None:
    for name, field in settings_class(method).model_fields.items():
        for value in outside(field):
            with pytest.raises(BadInput, match=rf"method\.settings\.{name} "):
                parse_settings(method, {name: value})


@pytest.mark.parametrize("method", OURS)
@given(data=st.data())
def test_any_value_of_a_methods_setting_is_taken_or_refused_in_one_sentence(method: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(settings_class(method).model_fields)) | NAMES)
    value = data.draw(VALUES)
    if settings := made(parse_settings, method, {name: value}):
        assert parse_settings(method, settings.model_dump()) == settings


@pytest.mark.parametrize("key", [key for key, field in KEYS.items() if outside(field)])
def test_a_keys_bounds_are_where_they_are_stated(key: str) -> None:
    name = key.replace(".", "_", 1)
    for value in outside(KEYS[key]):
        with pytest.raises(BadInput, match=key.replace(".", r"\.")):
            Category.from_parameters({name: value})
