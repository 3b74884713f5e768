from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import urllib3

from vqi.deployment.bench import measure
from vqi.deployment.bench_record import machine_in_use, write_bench
from vqi.deployment.serving.bundle_sources import FolderSource
from vqi.platform.errors import BadInput
from vqi_pipelines.commands.serve import named_sources

COMMAND = (str(Path(sys.executable).with_name("vqi")), "serve")


def test_a_server_starts_by_a_measurement_answers_and_ends_on_sigterm(toy_bundle: Path, tmp_path: Path) -> None:
    machine = machine_in_use().model_copy(update={"cpus": 77})
    measured = measure(toy_bundle, machine, backends=["onnxruntime"], threads=[1], batches=[2], seconds=0.01)
    write_bench(tmp_path / "bench.json", measured)
    process = subprocess.Popen(
        [*COMMAND, str(toy_bundle), "--port", "0", "--bench", str(tmp_path / "bench.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "VQI_SERVE_TOKEN": "secret"},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.search(r"Serving plates at (http://127\.0\.0\.1:\d+) ", line)
        assert address, line
        headers = {"Authorization": "Bearer secret"}
        assert urllib3.request("GET", f"{address[1]}/v2/models/plates", headers=headers).json()["name"] == "plates"
        assert urllib3.request("GET", f"{address[1]}/v2/models/plates").status == 401
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "bench.json: backend onnxruntime, 1 threads, batches of at most 2" in log
        assert "was measured on 77 processors" in log
    finally:
        process.kill()


def test_names_of_bundles_come_from_their_categories_or_from_the_command(toy_bundle: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(toy_bundle, again)
    assert named_sources([str(toy_bundle), f"left={again}"], tmp_path) == {
        "plates": FolderSource(toy_bundle),
        "left": FolderSource(again),
    }
    for bundles, sentence in (
        ([str(toy_bundle), str(again)], "Two bundles are called 'plates'"),
        ([f"a b={toy_bundle}"], "The name 'a b' cannot stand in an address"),
        ([str(tmp_path)], "is not a bundle"),
    ):
        with pytest.raises(BadInput, match=sentence):
            named_sources(bundles, tmp_path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--certificate", "chain.pem"], "TLS needs both --certificate and --key."),
        (["--certificate", "a.pem", "--key", "a.pem"], "cannot be used"),
        (["--token-file", "nothing"], "The token cannot be read from nothing"),
        (["--bench", "none.json"], "none.json is missing: it is not a file that vqi bench wrote"),
        (["--bench", "none.json", "--threads", "2"], "--bench excludes --backend, --device, --threads and --batch"),
        (["--queue", "0"], "queue"),
        (["--port", "70000"], "port"),
    ],
)
def test_bad_options_are_one_sentence_and_exit_code_2(toy_bundle: Path, options: list[str], sentence: str) -> None:
    done = subprocess.run([*COMMAND, str(toy_bundle), *options], capture_output=True, text=True)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
