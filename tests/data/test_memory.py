"""What is left of the memory of a container or of a job counts, not the host's alone."""

import psutil
import pytest

from xql_jax.data.memory import free_memory
from xql_jax.data.sampling import SHARE_OF_MEMORY, room_on_host


@pytest.mark.parametrize("at", ["/jobs/mine", "/jobs", "/"])
@pytest.mark.parametrize("version", [1, 2])
def test_the_least_that_is_left_in_a_control_group_and_those_around_it(version, at, tmp_path):
    limit, used = (("limit_in_bytes", "usage_in_bytes"), ("max", "current"))[version - 1]
    (tmp_path / "proc/self").mkdir(parents=True)
    line = "7:cpu,memory:/jobs/mine\n3:cpu:/\n0::/\n" if version == 1 else "0::/jobs/mine\n"
    (tmp_path / "proc/self/cgroup").write_text(line)
    base = tmp_path / "sys/fs/cgroup" / ("memory" if version == 1 else "")
    for name in ("/jobs/mine", "/jobs", "/"):
        group = base / name.lstrip("/")
        group.mkdir(parents=True, exist_ok=True)
        unlimited = "9223372036854771712" if version == 1 else "max"
        (group / f"memory.{limit}").write_text(f"{5000 if name == at else unlimited}\n")
        (group / f"memory.{used}").write_text("3000\n")
        spare = "inactive_file 7\ntotal_inactive_file 500\n" if version == 1 else "inactive_file 500\n"
        (group / "memory.stat").write_text(f"anon 2500\n{spare}")
    assert free_memory(tmp_path) == 5000 - 3000 + 500


def test_slurm_gives_mebibytes_of_a_node_or_of_each_cpu(monkeypatch):
    free = free_memory()
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")  # all of it
    assert free_memory() == pytest.approx(free, rel=0.2)
    taken = psutil.Process().memory_info().rss
    mebibytes = 2 * (taken // 2**21 + 500)  # 1,000 more than this process has
    monkeypatch.setenv("SLURM_MEM_PER_NODE", str(mebibytes))
    assert free_memory() == pytest.approx(1000 * 2**20, abs=50 * 2**20)
    monkeypatch.delenv("SLURM_MEM_PER_NODE")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", str(mebibytes // 2))
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "2")
    assert room_on_host() == pytest.approx(SHARE_OF_MEMORY * 1000 * 2**20, abs=50 * 2**20)
