"""Buckets that must be there and how long their contents are kept, by plain S3 calls: `python -m vqi.storage.buckets
FILE`.

FILE is YAML, a list of buckets (manifests/base/buckets/config.yaml). Nothing is deleted here: the store does that by
the rules it is given. Run again, it changes nothing where nothing is to be changed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from vqi.platform.errors import BadInput, VqiError
from vqi.platform.logs import logger
from vqi.storage.object_store import Address, ObjectStore

if TYPE_CHECKING:
    from minio.lifecycleconfig import Rule

log = logger(__name__)

OURS = "vqi-"


class Expiry(BaseModel):
    """Objects under a prefix ("": all) go this many days after they were stored."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    prefix: str
    days: int = Field(ge=1)


class Bucket(BaseModel):
    """A bucket, what expires in it, and after how many days the parts of an upload that never ended go (0: never)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    abort_uploads_after_days: int = Field(0, ge=0)
    expire: tuple[Expiry, ...] = ()

    @field_validator("name")
    @classmethod
    def _as_s3_allows(cls, name: str) -> str:
        if Address.parse(f"s3://{name}") != Address(name, ""):
            raise ValueError(f"{name!r} is not a name for a bucket")
        return name

    @field_validator("expire")
    @classmethod
    def _once_each(cls, expire: tuple[Expiry, ...]) -> tuple[Expiry, ...]:
        if len({item.prefix for item in expire}) < len(expire):
            raise ValueError("a prefix is named twice")
        return expire


def read_buckets(file: Path) -> list[Bucket]:
    """The buckets a file names. Raises BadInput where it is missing or not of this form."""
    try:
        return TypeAdapter(list[Bucket]).validate_python(yaml.safe_load(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise BadInput(f"The list of buckets {file} cannot be read ({error.strerror}).") from error
    except yaml.YAMLError as error:
        raise BadInput(f"The list of buckets {file} is not YAML ({str(error).splitlines()[0]}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{file}: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}.") from error


def set_up(store: ObjectStore, bucket: Bucket) -> str:
    """Make the bucket where it is missing and give it its rules; rules for what it does not name stay. Returns a line
    that says what was done."""
    done = ["made" if store.make_bucket(bucket.name) else "is there"]
    present = store.lifecycle(bucket.name)
    if present is None:
        return _line(
            bucket, [*done, "the store offers no lifecycle rules: what lies in it is kept until somebody deletes it"]
        )
    wanted = _rules(bucket)
    foreign = [rule for rule in present if not _is_ours(rule, wanted)]
    if _described(present) == _described(foreign + wanted):
        return _line(bucket, [*done, "its rules stand"])
    if store.set_lifecycle(bucket.name, foreign + wanted):
        return _line(bucket, [*done, f"{len(wanted)} rules set"])
    # Some stores (MinIO) know expiry alone, and see to unfinished uploads by themselves.
    expiring = [rule for rule in wanted if rule.expiration]
    if _described(present) == _described(foreign + expiring) or store.set_lifecycle(bucket.name, foreign + expiring):
        return _line(bucket, [*done, f"{len(expiring)} rules stand; the store takes none for unfinished uploads"])
    return _line(bucket, [*done, "the store takes no such rules: what lies in it is kept until somebody deletes it"])


def _line(bucket: Bucket, parts: list[str]) -> str:
    return f"{bucket.name}: {'; '.join(parts)}."


def _rules(bucket: Bucket) -> list[Rule]:
    from minio.commonconfig import ENABLED, Filter
    from minio.lifecycleconfig import AbortIncompleteMultipartUpload, Expiration, Rule

    rules = [
        Rule(
            ENABLED,
            rule_filter=Filter(prefix=item.prefix),
            rule_id=f"{OURS}{item.prefix.strip('/').replace('/', '-') or 'all'}",
            expiration=Expiration(days=item.days),
        )
        for item in bucket.expire
    ]
    if days := bucket.abort_uploads_after_days:
        aborting = AbortIncompleteMultipartUpload(days_after_initiation=days)
        rules.append(
            Rule(
                ENABLED,
                rule_filter=Filter(prefix=""),
                rule_id=f"{OURS}unfinished-uploads",
                abort_incomplete_multipart_upload=aborting,
            )
        )
    return rules


def _is_ours(rule: Rule, wanted: list[Rule]) -> bool:
    """By its name; or, from a store that keeps no names, because it says something about a prefix that we say something
    about."""
    return (rule.rule_id or "").startswith(OURS) or any(_scope(rule) == _scope(other) for other in wanted)


def _scope(rule: Rule) -> tuple[str, bool, bool]:
    prefix = (rule.rule_filter.prefix if rule.rule_filter else None) or ""
    tagged = bool(rule.rule_filter and (rule.rule_filter.tag or rule.rule_filter.and_operator))
    return (prefix, rule.expiration is not None, tagged)


def _described(rules: list[Rule]) -> set[tuple[object, ...]]:
    return {
        (
            *_scope(rule),
            rule.status,
            rule.expiration.days if rule.expiration else None,
            rule.abort_incomplete_multipart_upload,
            rule.transition,
        )
        for rule in rules
    }


def main(arguments: list[str]) -> int:
    try:
        if len(arguments) != 1:
            raise BadInput("Name one file: python -m vqi.storage.buckets FILE.")
        buckets = read_buckets(Path(arguments[0]))
        store = ObjectStore.from_environment()
        for bucket in buckets:
            print(set_up(store, bucket), flush=True)
    except VqiError as error:
        log.error(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
