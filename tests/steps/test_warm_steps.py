"""Steps in warm processes answer as steps in processes of their own do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vqi.placement import STEPS
from vqi.steps.warm_client import FOLDER
from vqi.steps.warm_server import LAYERS, listen

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="warm processes are forked on Linux alone")
PROGRAM = str(Path(__file__).resolve().parents[1] / "warm_layers.py")


def start(folder: Path, steps: tuple[str, ...], program: list[str]) -> subprocess.Popen[bytes]:
    sockets = listen(folder, steps)
    numbers = {step: own.fileno() for step, own in sockets.items()}
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", *program, json.dumps(numbers)],
        stdin=subprocess.PIPE,
        pass_fds=tuple(numbers.values()),
    )
    for own in sockets.values():
        own.close()
    return server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    server = start(tmp_path, ("first", "second"), [PROGRAM])
    yield server
    server.stdin.close()
    assert server.wait(30) == 0


def client(folder: Path, step: str, wanted: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vqi.steps.warm_client", "kfp.dsl.executor_main"]  # noqa: RUF005
        + ["--function_to_execute", step, "--executor_input", wanted],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, FOLDER: str(folder), "SHOWN": "the client's"},
    )


def ended(pid: int) -> bool:
    """Whether a process has ended within some seconds."""
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(("step", "imported"), [("first", "True False"), ("second", "True True")])
def test_a_step_stands_where_its_client_does(
    server: subprocess.Popen[bytes], tmp_path: Path, step: str, imported: str
) -> None:
    asking = client(tmp_path, step, "show")
    output, _ = asking.communicate(timeout=60)
    arguments = ["--function_to_execute", step, "--executor_input", "show"]
    assert output.splitlines() == [f"the client's {tmp_path} {imported} {arguments}", "an error line"]
    assert asking.returncode == 0


def test_how_a_step_ends_is_how_its_client_ends(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    both = [client(tmp_path, "first", "fail"), client(tmp_path, "second", "killed")]
    assert [asking.wait(60) for asking in both] == [3, -signal.SIGKILL]


def test_a_step_ends_with_its_client(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    asking = client(tmp_path, "second", "wait")
    assert asking.stdout is not None
    step = int(asking.stdout.readline())
    os.kill(step, 0)
    asking.kill()
    assert ended(step)


def test_an_interrupt_ends_the_step_and_not_the_server(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    asking = client(tmp_path, "first", "wait")
    assert asking.stdout is not None
    step = int(asking.stdout.readline())
    for process in (server.pid, asking.pid, step):  # as a terminal sends it to the whole group
        os.kill(process, signal.SIGINT)
    assert "KeyboardInterrupt" in asking.communicate(timeout=60)[0]
    assert client(tmp_path, "first", "show").wait(60) == 0


def test_without_a_server_the_step_runs_in_its_client(tmp_path: Path) -> None:
    output, _ = client(tmp_path, "configure", "{}").communicate(timeout=60)
    assert "KeyError" in output  # kfp's executor misses the outputs of an empty input
    assert "warm_server" not in output


def test_every_step_of_a_run_has_a_layer() -> None:
    assert tuple(step for layer in LAYERS for step in layer.steps) == (*STEPS, "promote")


@pytest.mark.slow
def test_every_layer_can_be_forked(tmp_path: Path) -> None:
    """A library that began a thread as it was imported would end the process that is forked beside it."""
    folder = tmp_path / "s"
    folder.mkdir()
    steps = tuple(layer.steps[-1] for layer in LAYERS)
    code = "import sys; from vqi.steps.warm_server import main; main(sys.argv[1:], print)"
    server = start(folder, steps, ["-c", code])
    asking = [client(folder, step, "{}") for step in steps]
    assert [each.communicate(timeout=120)[0].strip() for each in asking] == [
        str(("--function_to_execute", step, "--executor_input", "{}")) for step in steps
    ]
    assert [each.returncode for each in asking] == [0, 0, 0]
    assert server.stdin is not None
    server.stdin.close()
    assert server.wait(30) == 0
