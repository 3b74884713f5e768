"""Two processes on the CPU (gloo) learn what one learns from the same batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from shared_run import odd, refuse, resume, run, stumble
from torch import nn

from s3_server import free_ports
from vqi.platform.errors import BadInput, RunFailed
from vqi.training.distributed import Group, launch


@pytest.mark.slow
def test_two_processes_give_the_result_of_one() -> None:
    alone, history = run(Group(), 9)
    together, shared_history = launch(2, run, 9)
    # Sums of gradients and of batch statistics are taken in another order: float32 rounding, carried through nine steps
    # of Adam.
    for name, value in alone.items():
        torch.testing.assert_close(
            together[name], value, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert [point["loss"] for point in shared_history] == pytest.approx([point["loss"] for point in history], rel=1e-4)


@pytest.mark.slow
def test_the_message_of_one_process_reaches_the_person(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match=r"^The second process does not like it\.$"):
        launch(2, refuse)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_an_error_that_is_not_ours_keeps_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunFailed, match=r"One of 2 processes ended badly \(ZeroDivisionError: .*its log is above"):
        launch(2, stumble)
    assert "in stumble" in capfd.readouterr().err


@pytest.mark.parametrize("images", [2, 3, 7, 16])
def test_the_parts_of_a_batch_are_the_batch(images: int) -> None:
    parts = [range(images)[Group(rank, 2).part(images)] for rank in range(2)]
    assert Group(0, 2).shares(images)
    assert [number for part in parts for number in part] == list(range(images))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_alone_changes_no_gradient() -> None:
    layer = nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    before = layer.weight.grad.clone()  # type: ignore[union-attr]
    Group().sum_gradients(layer.parameters())
    assert torch.equal(layer.weight.grad, before)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_batch_of_fewer_images_than_processes_is_learnt_by_each() -> None:
    alone, together = odd(Group()), launch(3, odd)
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-4, atol=2e-5)


@pytest.mark.slow
def test_every_process_begins_and_resumes_with_the_first_one_s_weights(tmp_path: Path) -> None:
    alone = resume(Group(), str(tmp_path / "one"))
    together = launch(2, resume, str(tmp_path / "two"))
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value.double(), rtol=1e-4, atol=2e-5)


@pytest.mark.slow
def test_processes_that_see_different_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="do not see the same checkpoint"):
        launch(2, resume, f"{tmp_path}/{{rank}}")


def work_of_node(group: Group) -> tuple[int, int, int]:
    """Which of how many processes; those of two nodes have summed their ranks."""
    return group.local_rank, group.size, int(group.sum(torch.tensor(group.rank)))


@pytest.mark.slow
def test_two_nodes_meet_as_torchrun_s_variables_say() -> None:
    (port,) = free_ports(1)
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from test_distributed import work_of_node\n"
        "from vqi.training.distributed import launch_node\n"
        "if __name__ == '__main__': print(launch_node(work_of_node))"
    )
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    nodes = []
    for rank in range(2):
        settings = {"NNODES": "2", "NPROC_PER_NODE": "1", "NODE_RANK": str(rank)}
        settings |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        environment = {**os.environ, **{f"PET_{name}": value for name, value in settings.items()}}
        command = [sys.executable, "-W", "ignore", "-c", code, *paths]
        nodes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    printed = [node.communicate(timeout=120)[0].strip() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0]
    # The result is rank 0's, and the other node has none.
    assert printed == ["(0, 2, 1)", "None"]
