"""Buckets and their rules against a real S3 server."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import yaml
from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule

from fault_proxy import a_third, faulty
from s3_server import KEY, SECRET, Server
from vqi.platform.errors import BadInput
from vqi.storage.buckets import Bucket, Expiry, main, read_buckets, set_up
from vqi.storage.object_store import ObjectStore

NO_RULES = "kept until somebody deletes it"
CONFIG = Path(__file__).resolve().parents[2] / "manifests" / "base" / "buckets" / "config.yaml"


@pytest.fixture
def planned() -> Bucket:
    """A bucket that is not there yet."""
    expire = (Expiry(prefix="runs/", days=90), Expiry(prefix="logs/", days=7))
    return Bucket(name=f"test-{uuid.uuid4().hex[:12]}", abort_uploads_after_days=7, expire=expire)


def client(server: Server) -> Minio:
    return Minio(server.endpoint.removeprefix("http://"), KEY, SECRET, secure=False, region="us-east-1")


def expiries(server: Server, name: str) -> dict[str, int]:
    config = client(server).get_bucket_lifecycle(name)
    return {rule.rule_filter.prefix: rule.expiration.days for rule in config.rules if rule.expiration} if config else {}


def test_a_missing_bucket_is_made_and_an_existing_one_is_left(s3: Server, planned: Bucket) -> None:
    store = ObjectStore.from_environment()
    assert set_up(store, planned).startswith(f"{planned.name}: made;")
    assert client(s3).bucket_exists(planned.name)
    assert set_up(store, planned).startswith(f"{planned.name}: is there;")


def test_rules_are_set_once_and_changed_when_the_file_changes(s3: Server, planned: Bucket) -> None:
    store = ObjectStore.from_environment()
    if NO_RULES in set_up(store, planned):
        pytest.skip(f"{s3.kind} has no lifecycle rules")
    assert expiries(s3, planned.name) == {"runs/": 90, "logs/": 7}
    before = client(s3).get_bucket_lifecycle(planned.name)
    assert "stand" in set_up(store, planned)
    assert client(s3).get_bucket_lifecycle(planned.name) == before
    set_up(store, planned.model_copy(update={"expire": (Expiry(prefix="runs/", days=30),)}))
    assert expiries(s3, planned.name) == {"runs/": 30}


def test_rules_of_others_stay(s3: Server, planned: Bucket) -> None:
    store = ObjectStore.from_environment()
    if NO_RULES in set_up(store, planned):
        pytest.skip(f"{s3.kind} has no lifecycle rules")
    theirs = Rule(ENABLED, rule_filter=Filter(prefix="theirs/"), rule_id="theirs", expiration=Expiration(days=3))
    client(s3).set_bucket_lifecycle(planned.name, LifecycleConfig([theirs]))
    set_up(store, planned)
    assert expiries(s3, planned.name) == {"theirs/": 3, "runs/": 90, "logs/": 7}


def test_a_store_without_rules_is_reported_and_is_not_a_failure(
    s3: Server, planned: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ObjectStore, "lifecycle", lambda self, name: None)
    assert NO_RULES in set_up(ObjectStore.from_environment(), planned)


def test_over_a_bad_network(s3: Server, planned: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty(s3.endpoint, a_third()) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", network.endpoint)
        store = ObjectStore.from_environment()
        for _ in range(4):
            set_up(store, planned)
    assert network.spoilt
    assert client(s3).bucket_exists(planned.name)


def test_the_command_sets_up_every_bucket_of_a_file(
    s3: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"test-{uuid.uuid4().hex[:12]}" for _ in range(2)]
    file = tmp_path / "buckets.yaml"
    file.write_text(yaml.safe_dump([{"name": name} for name in names]))
    assert main([str(file)]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == names
    monkey = client(s3)
    assert all(monkey.bucket_exists(name) for name in names)


def test_wrong_credentials_are_bad_input(
    s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    file = tmp_path / "buckets.yaml"
    file.write_text("- name: anything\n")
    assert main([str(file)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- name: UPPER", "not a name for a bucket|not an address"),
        ("- {name: good, expire: [{prefix: a/, days: 0}]}", "greater than or equal to 1"),
        ("- {name: good, expire: [{prefix: a/, days: 1}, {prefix: a/, days: 2}]}", "named twice"),
        ("- {name: good, keep: for ever}", "keep"),
        ("name: [", "not YAML"),
    ],
)
def test_a_file_of_another_form_is_refused_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "buckets.yaml"
    file.write_text(text)
    with pytest.raises(BadInput, match=message):
        read_buckets(file)


def test_the_list_of_the_manifests_has_the_right_form(tmp_path: Path) -> None:
    file = tmp_path / "buckets.yaml"
    file.write_text(yaml.safe_load(CONFIG.read_text())["data"]["buckets.yaml"])
    assert [bucket.name for bucket in read_buckets(file)] == ["mlpipeline", "mlflow", "vqi"]
