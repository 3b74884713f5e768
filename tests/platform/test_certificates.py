from __future__ import annotations

import os
from pathlib import Path

import pytest

from vqi.platform.certificates import VARIABLES, trust_mounted_certificates


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_an_empty_mount_changes_nothing(tmp_path: Path) -> None:
    assert not trust_mounted_certificates(tmp_path / "ca.crt")
    assert not any(name in os.environ for name in VARIABLES)


def test_what_is_mounted_is_trusted_and_what_is_set_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/own.crt")
    (tmp_path / "ca.crt").write_text("certificate")
    assert trust_mounted_certificates(tmp_path / "ca.crt")
    assert os.environ["AWS_CA_BUNDLE"] == "/own.crt"
    assert os.environ["SSL_CERT_FILE"] == os.environ["REQUESTS_CA_BUNDLE"] == str(tmp_path / "ca.crt")
