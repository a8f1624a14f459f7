"""What is left of the memory of a container or of a job counts, not the host's alone."""

import psutil
import pytest

from xql_jax.data.memory import free_memory
from xql_jax.data.sampling import SHARE_OF_MEMORY, room_on_device


@pytest.mark.parametrize("is_limited", [True, False])
@pytest.mark.parametrize("version", [1, 2])
def test_the_least_that_is_left_in_a_container(version, is_limited, tmp_path):
    limit, used = (("limit_in_bytes", "usage_in_bytes"), ("max", "current"))[version - 1]
    group = tmp_path / ("memory" if version == 1 else "")
    group.mkdir(exist_ok=True)
    unlimited = "9223372036854771712" if version == 1 else "max"
    (group / f"memory.{limit}").write_text(f"{5000 if is_limited else unlimited}\n")
    (group / f"memory.{used}").write_text("3000\n")
    (group / "memory.stat").write_text("anon 2500\ninactive_file 500\n")
    assert (free_memory(tmp_path) == 5000 - 3000 + 500) == is_limited


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
    assert room_on_device() == pytest.approx(SHARE_OF_MEMORY * 1000 * 2**20, abs=50 * 2**20)
