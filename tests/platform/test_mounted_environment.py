from __future__ import annotations

from pathlib import Path

import pytest

from vqi.platform.mounted_environment import read_mounted_environment


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """Volumes as the kubelet makes them: a key is a link to a file in a folder that a link names."""
    keys = {
        "settings": {"AWS_REGION": "eu-1", "MLFLOW_TRACKING_URI": "http://mlflow:5000", "app.kubernetes.io": "not one"},
        "store": {"AWS_ACCESS_KEY_ID": "a key"},
        "tracking": {},
    }
    for name, values in keys.items():
        (tmp_path / name / "..2026").mkdir(parents=True)
        (tmp_path / name / "..data").symlink_to("..2026")
        for key, value in values.items():
            (tmp_path / name / "..2026" / key).write_text(value)
            (tmp_path / name / key).symlink_to(f"..data/{key}")
    return tmp_path


def test_each_key_becomes_a_variable(mounted: Path) -> None:
    environ: dict[str, str] = {}
    names = read_mounted_environment(mounted, environ)
    assert names == ["AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "MLFLOW_TRACKING_URI"]
    assert environ == {
        "AWS_ACCESS_KEY_ID": "a key",
        "AWS_DEFAULT_REGION": "eu-1",
        "AWS_REGION": "eu-1",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    }


def test_what_is_set_stands(mounted: Path) -> None:
    environ = {"AWS_REGION": "here", "AWS_DEFAULT_REGION": "there"}
    assert read_mounted_environment(mounted, environ) == ["AWS_ACCESS_KEY_ID", "MLFLOW_TRACKING_URI"]
    assert (environ["AWS_REGION"], environ["AWS_DEFAULT_REGION"]) == ("here", "there")


def test_outside_a_cluster_nothing_is_mounted(tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    assert read_mounted_environment(tmp_path / "absent", environ) == []
    assert environ == {}
