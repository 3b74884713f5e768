"""Records: what one step leaves for others, as one JSON file. Each is a strict, frozen model beside its owner, which
alone writes and reads it; everyone else takes its attributes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    WrapSerializer,
    model_serializer,
)

from vqi.platform.errors import BadInput
from vqi.platform.files import write_json
from vqi.platform.settings import sentence

Item = TypeVar("Item")
# JSON has no tuples: an array stands for one, and what it holds is still read strictly.
Items = Annotated[tuple[Item, ...], Field(strict=False)]
Pair = Annotated[tuple[Item, Item], Field(strict=False)]
Triple = Annotated[tuple[Item, Item, Item], Field(strict=False)]


class Record(BaseModel):
    """A record, or a part of one: an unknown key is an error, and text is not a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def values(self) -> dict[str, Any]:
        """As it is written: JSON values by key (tuples stand for arrays)."""
        return self.model_dump()


def complete(kind: type[BaseModel], added: Collection[str] = ()) -> BeforeValidator:
    """For a part of a record that is a section of the configuration: a key that is missing is an error, and never its
    default, except for those `added` later, whose defaults are what earlier versions did."""

    def check(value: Any) -> Any:
        required = [name for name in kind.model_fields if name not in added]
        missing = [name for name in required if isinstance(value, Mapping) and name not in value]
        if missing:
            raise ValueError(f"lacks {missing[0]}")
        return value

    return BeforeValidator(check)


def omitting(kind: type[BaseModel], added: Collection[str]) -> WrapSerializer:
    """For such a part: the keys `added` later are written where they are not their defaults, so that a record of an
    earlier version is written again as it was."""
    defaults = {name: kind.model_fields[name].default for name in added}

    def dump(value: Any, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: item for key, item in handler(value).items() if key not in defaults or item != defaults[key]}

    return WrapSerializer(dump)


class PartialRecord(Record):
    """A record that leaves keys out: those of `left_out` whose value is None."""

    left_out: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_missing(self, dump: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if value is not None or key not in self.left_out}


class FileRecord(PartialRecord):
    """A record that is a file of its own. `format_name` is the file's first key; `remedy` says what to do about a file
    that cannot be used. `once_without_format`: earlier versions wrote no format, and such files are still read.
    """

    format_name: ClassVar[str]
    remedy: ClassVar[str]
    once_without_format: ClassVar[bool] = False

    def values(self) -> dict[str, Any]:
        return {"format": self.format_name, **self.model_dump()}


Kind = TypeVar("Kind", bound=FileRecord)
Part = TypeVar("Part", bound=BaseModel)


def write_record(path: Path, record: FileRecord) -> None:
    """Write `record` as readable JSON, atomically. Raises ValueError for NaN and infinities, which are not JSON."""
    write_json(path, record.values())


def read_record(kind: type[Kind], path: Path, missing: str = "") -> Kind:
    """The record of a file. Raises BadInput with one sentence where the file is missing (`missing` says what that
    means), damaged, or of another format.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInput(f"{path} is missing{missing}; {kind.remedy}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read ({type(error).__name__}); {kind.remedy}.") from error
    return parse_record(kind, text, str(path))


def parse_record(kind: type[Kind], text: str, where: str) -> Kind:
    """The record in the `text` of a file that a sentence calls `where`. Raises BadInput as `read_record` does."""
    value = parse_json(text, where, kind.remedy)
    version = value.pop("format", None) if isinstance(value, dict) else None
    if version != kind.format_name and not (version is None and kind.once_without_format):
        raise BadInput(f"{where} has format {version!r}, this version reads {kind.format_name!r}; {kind.remedy}.")
    return parse_part(kind, value, where, kind.remedy)


def parse_json(text: str, where: str, remedy: str) -> Any:
    """The value of JSON text. Raises BadInput where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where} cannot be read, it is not JSON ({error}); {remedy}.") from error


def parse_part(kind: type[Part], value: Any, where: str, remedy: str) -> Part:
    """`value` as a `kind`. Raises BadInput with one sentence that begins with `where`."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        what = sentence(error, kind, hint=False).removesuffix(".")
        raise BadInput(f"{where} cannot be read: {what}; {remedy}.") from error
