"""Control groups are files: fabricated here as containers see them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vqi.platform import threads
from vqi.platform.threads import available_cpus, decoding_threads, follow_cpu_limit, thread_limit, worker_count

CORES = 96


@pytest.fixture(autouse=True)
def big_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_affinity", lambda: CORES)
    monkeypatch.setattr(os, "cpu_count", lambda: CORES)
    monkeypatch.setenv("OMP_NUM_THREADS", "")


def files(root: Path, contents: dict[str, str]) -> Path:
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("contents", "cpus"),
    [
        pytest.param({}, CORES, id="nothing is there"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4, id="v2"),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, CORES, id="v2 without a limit"
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "350000 100000\n"}, 3, id="v2, a part of a core"
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "20000 100000\n"}, 1, id="v2, less than a core"
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/kubepods/pod1/main\n",
                "sys/fs/cgroup/kubepods/pod1/main/cpu.max": "max 100000\n",
                "sys/fs/cgroup/kubepods/pod1/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/kubepods/cpu.max": "9000000 100000\n",
            },
            2,
            id="v2, an ancestor's limit",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/../../outside\n", "sys/fs/cgroup/cpu.max": "500000 100000\n"},
            5,
            id="v2, a group outside",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpuset.cpus.effective": "0-2,8,10-11\n"}, 6, id="v2, a cpuset"
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/cpuset.cpus.effective": "0-7\n",
                "sys/fs/cgroup/cpu.max": "200000 100000\n",
            },
            2,
            id="v2, the lesser of quota and cpuset",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "12:memory:/kubepods/pod1/abc\n4:cpu,cpuacct:/kubepods/pod1/abc\n0::/\n",
                # The container's own group is what is mounted; its path is the host's.
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "800000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            8,
            id="v1 in a container",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/kubepods/pod1/abc\n",
                "sys/fs/cgroup/cpu/kubepods/pod1/abc/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/kubepods/pod1/abc/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/kubepods/pod1/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu/kubepods/pod1/cpu.cfs_period_us": "50000\n",
            },
            3,
            id="v1, an ancestor's limit",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            CORES,
            id="v1 without a limit",
        ),
        pytest.param(
            {"proc/self/cgroup": "3:cpuset:/pod\n", "sys/fs/cgroup/cpuset/pod/cpuset.cpus": "4-7\n"},
            4,
            id="v1, a cpuset",
        ),
        pytest.param({"proc/self/cgroup": "damaged\n", "sys/fs/cgroup/cpu.max": "7\n"}, CORES, id="damaged"),
    ],
)
def test_what_binds_the_process(tmp_path: Path, contents: dict[str, str], cpus: int) -> None:
    root = files(tmp_path, contents)
    assert available_cpus(root) == cpus
    assert thread_limit(root) == (cpus if cpus < CORES else 0)
    assert decoding_threads(4, root) == min(4, cpus)


def test_affinity_binds_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_affinity", lambda: 3)
    assert available_cpus(tmp_path) == 3


@pytest.mark.parametrize(("variable", "limit"), [("6", 6), ("6,2", 6), ("many", 4), ("", 4)])
def test_a_number_of_one_s_own_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, limit: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    root = files(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"})
    assert thread_limit(root) == limit


def test_loaded_torch_gets_the_limit(tmp_path: Path) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        assert (
            follow_cpu_limit(
                files(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"})
            )
            == 1
        )
        assert torch.get_num_threads() == 1
        assert os.environ["OMP_NUM_THREADS"] == "1"
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_torch_that_is_not_loaded_finds_it_when_it_does(tmp_path: Path) -> None:
    files(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"})
    code = (
        "import os; os.cpu_count = lambda: 96; os.sched_getaffinity = lambda _: set(range(96))\n"
        "from pathlib import Path; from vqi.platform.threads import follow_cpu_limit; "
        f"follow_cpu_limit(Path({str(tmp_path)!r}))\n"
        "import sys; assert 'torch' not in sys.modules\n"
        "import torch; print(torch.get_num_threads(), os.environ['OMP_NUM_THREADS'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "1 1", done.stderr


def test_without_a_limit_nothing_is_set(tmp_path: Path) -> None:
    assert follow_cpu_limit(tmp_path) == 0
    assert os.environ["OMP_NUM_THREADS"] == ""


@pytest.mark.parametrize(
    ("threads", "cpus", "count"), [("", "300000 100000", 3), ("2", "max 100000", 2), ("1,4", "max 100000", 1)]
)
def test_processes_follow_the_limit_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: str, cpus: str, count: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    files(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{cpus}\n"})
    assert worker_count(root=tmp_path) == count
