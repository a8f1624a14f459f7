"""The memory that is left, in made-up trees of control groups and by the shell's limits."""

import resource

import psutil
import pytest

from xql_jax.data import memory
from xql_jax.data.memory import _container_limits
from xql_jax.errors import UserError

GB = 10**9


def group2(folder, limit, used=0, cached=0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nactive_file 6\n")


def group1(folder, limit, used=0, cached=0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"inactive_file 7\ntotal_inactive_file {cached}\n")


@pytest.fixture
def left(tmp_path):
    """Returns what is left in tmp_path/root to a process whose cgroup file has these lines."""

    def left(*lines):
        (tmp_path / "cgroup").write_text("".join(f"{line}\n" for line in lines))
        return sorted(_container_limits(tmp_path / "root", tmp_path / "cgroup"))

    return left


def test_version_2_from_the_job_up_to_the_root(tmp_path, left):
    root = tmp_path / "root"
    slurm = root / "system.slice" / "slurm:x"
    group2(root, 9 * GB, used=GB)  # as in a container, of which this is the group
    group2(root / "system.slice", "max")
    group2(slurm, 6 * GB, used=3 * GB, cached=GB)
    group2(slurm / "job_1", 5 * GB, used=2 * GB)
    (slurm / "job_1" / "step_0").mkdir()  # has no memory controller
    group2(slurm / "job_2", 1)
    assert left("0::/system.slice/slurm:x/job_1/step_0") == [3 * GB, 4 * GB, 8 * GB]
    assert left("0::/system.slice") == [8 * GB]
    assert left("0::/") == [8 * GB]


@pytest.mark.parametrize("controllers", ["memory", "hugetlb,memory", "memory,hugetlb"])
def test_version_1_from_the_job_up_to_the_root(tmp_path, left, controllers):
    root = tmp_path / "root" / "memory"
    group1(root, 2**63 - 4096)
    group1(root / "slurm" / "uid_1", 5 * GB, used=2 * GB, cached=GB)
    group1(root / "slurm" / "uid_1" / "job_1", 3 * GB, used=GB)
    group1(root / "elsewhere", 1)
    lines = (
        "9:cpu,cpuacct:/elsewhere",
        "8:memory_of_another_kind:/elsewhere",
        f"4:{controllers}:/slurm/uid_1/job_1",
        "1:name=systemd:/elsewhere",
        "0::/",
    )
    assert left(*lines) == [2 * GB, 4 * GB, 2**63 - 4096]


@pytest.mark.parametrize("line", ["0::/docker/abc", "0::/../../other", "nonsense", ""])
def test_a_path_that_is_not_mounted_leaves_the_root(tmp_path, left, line):
    """Without a namespace, a container's group is the root while its path is the machine's."""
    group2(tmp_path / "root", 4 * GB, used=GB)
    group2(tmp_path / "other", 1)
    assert left(line) == [3 * GB]


def test_no_control_groups(tmp_path):
    assert _container_limits(tmp_path / "none", tmp_path / "nothing") == []
    group2(tmp_path, 4 * GB)
    assert _container_limits(tmp_path, tmp_path / "nothing") == [4 * GB]


def test_a_group_without_statistics_still_limits(tmp_path, left):
    group2(tmp_path / "root" / "job", 4 * GB, used=GB)
    for text in ("", "anon 5\n"):
        (tmp_path / "root" / "job" / "memory.stat").write_text(text)
        assert left("0::/job") == [3 * GB]
    (tmp_path / "root" / "job" / "memory.stat").unlink()
    assert left("0::/job") == [3 * GB]


def test_the_least_is_what_is_available(monkeypatch):
    monkeypatch.setattr(memory, "_container_limits", lambda: [7, 5])
    assert memory.available_memory() == 5
    monkeypatch.setattr(memory, "_container_limits", list)
    assert memory.available_memory() == pytest.approx(psutil.virtual_memory().available, rel=0.2)


@pytest.fixture
def limited():
    """Sets a limit of this process to what it takes, by psutil's name, and some bytes more."""
    before = {limit: resource.getrlimit(limit) for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA)}

    def limited(limit, used, more):
        most = getattr(psutil.Process().memory_info(), used) + more
        resource.setrlimit(limit, (most, before[limit][1]))

    yield limited
    for limit, values in before.items():
        resource.setrlimit(limit, values)


@pytest.mark.parametrize("limit", [(resource.RLIMIT_AS, "vms"), (resource.RLIMIT_DATA, "data")])
def test_the_shells_limits_count(limited, limit):
    limited(*limit, 100_000_000)
    assert memory.available_memory() == pytest.approx(100_000_000, abs=20_000_000)
    assert (memory.address_space() < GB) == (limit[1] == "vms")


@pytest.mark.parametrize(("there", "room"), [(8 * GB, 8 * GB - memory.OWN), (GB, 3 * GB // 4), (0, 0)])
def test_a_part_of_it_is_not_for_data(monkeypatch, there, room):
    monkeypatch.setattr(memory, "available_memory", lambda: there)
    assert memory.room_for_data() == room
    memory.check_memory(room, "mine.npz", "less")
    with pytest.raises(UserError, match=r"mine\.npz: .* of memory are needed, there are .* for data: less$"):
        memory.check_memory(room + 1, "mine.npz", "less")


def test_addresses_are_told_apart_from_memory(limited):
    memory.check_address_space(1 << 50, "mine.npz")
    limited(resource.RLIMIT_AS, "vms", 100_000_000)
    with pytest.raises(UserError, match=r"mine\.npz: to map it from disk takes 200\.00 MB .*ulimit -v"):
        memory.check_address_space(200_000_000, "mine.npz")
