"""What a section of the configuration is, and the sentence for a value that it does not take."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from vqi.platform.errors import BadInput, closest

# A value that a sentence quotes is cut here: a record's may be a whole file.
LONGEST_SHOWN = 80
WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class Settings(BaseModel):
    """A section of the configuration: frozen, and an unknown key is an error. Each lives in the room that uses it.

    A field states its type, bounds and description; `json_schema_extra` may add the `source` of its default, and `path`
    where it names a file or folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_truth_values(cls, values: Any) -> Any:
        """pydantic takes true for 1; as text it is not a number."""
        if not isinstance(values, Mapping):
            return values
        numbers = {name for name, field in cls.model_fields.items() if type_of(field) in (int, float)}
        return {key: str(item) if key in numbers and isinstance(item, bool) else item for key, item in values.items()}


Kind = TypeVar("Kind", bound=BaseModel)


def parse_numbers(value: Any) -> Any:
    """`256`, `"256,256"`, `"256x256"`, `"[256, 256]"` and lists are the same numbers; "" and None are none."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        parts = [part for part in re.split(r"[\s,;x\[\]()]+", value.strip()) if part]
        try:
            value = [float(part) for part in parts]
        except ValueError:
            return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = [value]
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = [value[0], value[0]]
    if isinstance(value, (list, tuple)):
        return tuple(int(v) if isinstance(v, float) and v.is_integer() else v for v in value)
    return value


def parse_names(value: Any) -> Any:
    """`"a, b"`, `"[a b]"` and lists are the same names."""
    if isinstance(value, str):
        return tuple(part for part in re.split(r"[\s,]+", value.strip("[] ")) if part)
    return value


def parse_auto(value: Any) -> Any:
    """`auto`, "" and None leave a choice to the program: None."""
    return None if value in (None, "", "auto") else value


def parse_answer(value: Any) -> Any:
    """YAML reads yes and no as true and false."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


# As a form shows it: a drop-down of two, where KFP's truth value is a text field.
Answer = Annotated[Literal["no", "yes"], BeforeValidator(parse_answer)]
Size = Annotated[tuple[int, int], BeforeValidator(parse_numbers)]
OptionalSize = Annotated[tuple[int, int] | None, BeforeValidator(parse_numbers)]
Names = Annotated[tuple[str, ...], BeforeValidator(parse_names)]
AutoFraction = Annotated[float | None, BeforeValidator(parse_auto)]
AutoNumber = Annotated[int | None, BeforeValidator(parse_auto)]
# `json_schema_extra` of a field whose None is written as auto.
AUTO: JsonDict = {"none": "auto"}


def read_settings(kind: type[Kind], values: Mapping[str, Any], prefix: str = "", owner: str = "") -> Kind:
    """`values` as a `kind`. `prefix` stands before a key in a sentence, `owner` says whose keys they are.

    Raises BadInput with one sentence: the key, what is wrong with its value, and a near match.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise BadInput(f"{sentence(error, kind, prefix, owner)}") from error


def sentence(
    error: ValidationError, kind: type[BaseModel], prefix: str = "", owner: str = "", hint: bool = True
) -> str:
    """The first thing that is wrong, as one sentence. `hint`: whether it names what a person may have meant."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if not str(part).startswith("function-")]
    section, field = _at(kind, path)
    known = field is not None
    where = prefix + ".".join(path[: _depth(kind, path)] if known else path)
    value = first.get("input")
    if first["type"] == "extra_forbidden":
        keys = list(section.model_fields) if section else []
        return f"{where} is not a {f'setting of {owner}' if owner else 'key'}.{closest(path[-1], keys) if hint else ''}"
    if first["type"] == "missing" and len(path) == _depth(kind, path):
        return f"{where} is missing."
    shown = shorten(value)
    if first["type"] == "value_error":
        return f"{where} is {shown}: it {first['msg'].removeprefix('Value error, ')}."
    if field is None:
        return f"{where or 'the value'} is {shown}: {first['msg'][0].lower()}{first['msg'][1:]}."
    shape = (field.json_schema_extra or {}).get("shape") if isinstance(field.json_schema_extra, dict) else None
    if shape and len(path) >= 1:
        return f"{where} must be {shape}."
    choices = choices_of(field)
    if choices and hint:
        return f"{where} is {shown}.{closest(str(value), list(choices))}"
    if first["type"] in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        return f"{where} is {shown}; it must {_range_words(field)}."
    word = WORDS.get(type_of(field))
    if word and first["type"].endswith(("_type", "_parsing", "_from_float")):
        return f"{where} is {shown}; it must be {word}."
    message = first["msg"].removeprefix("Input ").removeprefix("String ")
    return f"{where} is {shown}: it {message[0].lower()}{message[1:]}."


def shorten(value: Any) -> str:
    """A value as a sentence shows it."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def type_of(field: FieldInfo) -> Any:
    """The type of a field's value, without None."""
    kind = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(each for each in get_args(kind) if each is not type(None))
    return kind


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """What a field's value is one of; () where it is free."""
    kind = type_of(field)
    return get_args(kind) if get_origin(kind) is Literal else ()


def bounds_of(field: FieldInfo) -> tuple[float | None, float | None]:
    """The least and the largest value of a field, None where there is none; whether they belong to the range
    `_range_words` says."""
    low = high = None
    for rule in field.metadata:
        low = getattr(rule, "ge", getattr(rule, "gt", low))
        high = getattr(rule, "le", getattr(rule, "lt", high))
    return low, high


def extra_of(field: FieldInfo, name: str) -> Any:
    """What a field's `json_schema_extra` says under `name`, or None."""
    return field.json_schema_extra.get(name) if isinstance(field.json_schema_extra, dict) else None


def _range_words(field: FieldInfo) -> str:
    low, high = bounds_of(field)
    open_low = any(isinstance(rule, annotated_types.Gt) for rule in field.metadata)
    open_high = any(isinstance(rule, annotated_types.Lt) for rule in field.metadata)
    if low is None or high is None:
        edge, value = (
            ("above" if open_low else "at least", low) if high is None else ("below" if open_high else "at most", high)
        )
        return f"be {edge} {value:.15g}"
    excluded = (
        ", both excluded"
        if open_low and open_high
        else f", {low:.15g} excluded"
        if open_low
        else f", {high:.15g} excluded"
        if open_high
        else ""
    )
    return f"lie between {low:.15g} and {high:.15g}{excluded}"


def _at(kind: type[BaseModel], path: list[str]) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """The section that the last key of a path stands in, and the field that the path names or leads into."""
    section, field, _ = _walk(kind, path)
    return section, field


def _depth(kind: type[BaseModel], path: list[str]) -> int:
    """How many parts of a path are keys: what follows is a position inside a value."""
    return _walk(kind, path)[2]


def _walk(kind: type[BaseModel], path: list[str]) -> tuple[type[BaseModel] | None, FieldInfo | None, int]:
    """The section, the field, and the number of parts that are keys, or positions of sections in a list or mapping."""
    section: type[BaseModel] | None = kind
    field: FieldInfo | None = None
    items: type[BaseModel] | None = None
    for number, part in enumerate(path):
        if section is None and items is not None:
            section, items = items, None
            continue
        if section is None or part not in section.model_fields:
            return section, None if section else field, number
        field = section.model_fields[part]
        section, items = _sections(type_of(field))
    return section, field, len(path)


def _sections(kind: Any) -> tuple[type[BaseModel] | None, type[BaseModel] | None]:
    """The section that a type is, and the section that its items are."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind, None
    items = [each for each in get_args(kind) if isinstance(each, type) and issubclass(each, BaseModel)]
    return None, items[0] if items and get_origin(kind) in (tuple, list, dict) else None


def whole_numbers(kind: type[BaseModel], values: Any) -> Any:
    """`values` with whole floats as integers where a field takes one: KFP hands integers over as floats."""
    if not isinstance(values, Mapping):
        return values
    integers = {name for name, field in kind.model_fields.items() if type_of(field) is int}
    return {
        key: int(value) if key in integers and isinstance(value, float) and value.is_integer() else value
        for key, value in values.items()
    }
