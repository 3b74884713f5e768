"""What tests share: the real photographs and weights beside the project, where they are there."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from s3_server import KINDS, MISSING, Server, binary, new_bucket, serving
from vqi.platform.bytecode import keep_bytecode

# Importing vqi has set OMP_WAIT_POLICY, before any test loads torch.
keep_bytecode()

# Two processes that test side by side and compute with two threads each wait for each other most of the time.
os.environ["OMP_NUM_THREADS"] = "1" if "PYTEST_XDIST_WORKER" in os.environ else os.environ.get("OMP_NUM_THREADS", "2")
# The same examples every time, on every machine: a test that draws others fails for somebody else's change.
# HYPOTHESIS_PROFILE=search draws new ones, and many: for whoever changes what these tests are about.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None, max_examples=60)
settings.register_profile("search", database=None, deadline=None, max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The folder of real photographs in MVTec layout: cookie, hazelnut, magnetic_tile."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the real photographs are not beside this checkout (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def imagenet_resnet18() -> Path:
    """ImageNet weights of ResNet-18 up to layer3 (layer4 is missing from the file)."""
    file = SHARED / "weights" / "resnet18_imagenet_layers1-3_torchvision_keys.pth"
    if not file.is_file():
        pytest.skip("the ImageNet weights are not beside this checkout (../shared/weights)")
    return file


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a small detector (tests/toy_bundle.py); copy it before changing it."""
    from toy_bundle import write_toy_bundle

    folder = tmp_path_factory.mktemp("toy") / "bundle"
    folder.mkdir()
    write_toy_bundle(folder)
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    kinds = ", ".join(KINDS)
    parser.addoption(
        "--s3",
        default="",
        help=f"S3 servers to test with ({kinds}; several with commas; all), none of them skipped; default: MinIO "
        "where it is there, else rclone",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes the S3 server is run with each that was asked for."""
    if "s3_server" in metafunc.fixturenames:
        metafunc.parametrize("s3_server", s3_kinds(metafunc.config), indirect=True)


def s3_kinds(config: pytest.Config) -> list[str]:
    requested = config.getoption("--s3")
    if requested:
        kinds = list(KINDS) if requested == "all" else requested.split(",")
        if unknown := set(kinds) - set(KINDS):
            raise pytest.UsageError(f"--s3 names {', '.join(sorted(unknown))}; there are {', '.join(KINDS)} and all")
        return kinds
    return ["minio" if binary("minio") else "rclone"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "s3_server" in getattr(item, "fixturenames", ()):
            item.add_marker("s3")


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real S3 server (tests/s3_server.py)."""
    kind = request.param
    if not binary(kind):
        # One that was asked for by name must be there.
        (pytest.fail if request.config.getoption("--s3") else pytest.skip)(MISSING[kind])
    with serving(kind, tmp_path_factory.mktemp(kind)) as server:
        yield server


@pytest.fixture
def s3(s3_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    """The S3 server, with an environment that names it and holds its credentials, and an empty cache."""
    forget_stores(monkeypatch)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VQI_CACHE", str(tmp_path / "cache"))
    return s3_server


def forget_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name
        for name in os.environ
        if name.startswith(("AWS_", "MINIO_", "MLFLOW_S3")) or name.lower().endswith("_proxy")
    ]:
        monkeypatch.delenv(name)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bucket(s3: Server) -> str:
    """A new bucket in it."""
    return new_bucket(s3)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """The file of a certificate authority of our own, and a server's side of TLS with a certificate of it for
    `localhost`."""
    from certificates import made_authority

    return made_authority(tmp_path_factory.mktemp("authority"))
