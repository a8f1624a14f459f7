"""OGBench's single tasks: robots in mazes and at tables (Park et al. 2025)."""

from collections.abc import Iterator

from xql_jax.suites import RETURN_ITSELF, DataFolder, Suite, Task

_SERVER = "https://rail.eecs.berkeley.edu/datasets/ogbench"
# The environments, their datasets, and the steps of an episode; `ogbench` 1.2.2, without pictures.
_ENVIRONMENTS = (
    ("pointmaze-medium pointmaze-large pointmaze-giant pointmaze-teleport", "navigate stitch", 1000),
    ("antmaze-medium antmaze-large antmaze-teleport", "navigate stitch explore", 1000),
    ("antmaze-giant antsoccer-arena antsoccer-medium", "navigate stitch", 1000),
    ("humanoidmaze-medium humanoidmaze-large", "navigate stitch", 2000),
    ("humanoidmaze-giant", "navigate stitch", 4000),
    ("cube-single", "play noisy", 200),
    ("cube-double puzzle-3x3 puzzle-4x4", "play noisy", 500),
    ("scene", "play noisy", 750),
    ("cube-triple cube-quadruple puzzle-4x5 puzzle-4x6", "play noisy", 1000),
)
_NUMBERS = ("", "-task1", "-task2", "-task3", "-task4", "-task5")  # without one, it is the default task


def _tasks() -> Iterator[Task]:
    for environments, datasets, limit in _ENVIRONMENTS:
        for environment in environments.split():
            for dataset in datasets.split():
                url = f"{_SERVER}/{environment}-{dataset}-v0.npz"
                for number in _NUMBERS:
                    name = f"{environment}-{dataset}-singletask{number}-v0"
                    yield Task(name, _OGBENCH, url, *RETURN_ITSELF, limit, by_success=True)


_OGBENCH = Suite(
    "ogbench",
    config="ogbench",
    tasks=_tasks,
    environment="xql_jax.envs.ogbench:OGBench",
    packages=("mujoco", "ogbench"),
    max_environments=16,  # steps of 1 to 9 ms, mostly Python
    data_folder=DataFolder("OGBENCH_DATASET_DIR", "~/.ogbench/data"),
    reader="xql_jax.data.readers:read_ogbench",
    labels="xql_jax.envs.ogbench:rewarded",
)

RECORDS = (_OGBENCH,)
