"""D4RL's kitchen: an arm is to do four household tasks."""

from collections.abc import Iterator

from xql_jax.suites.record import D4RL_PACKAGES, D4RL_SERVER, Suite, Task

_FILES = {
    "complete": "mini_kitchen_microwave_kettle_light_slider",
    "partial": "kitchen_microwave_kettle_light_slider",
    "mixed": "kitchen_microwave_kettle_bottomburner_light",
}


def _tasks() -> Iterator[Task]:
    for data, file in _FILES.items():
        yield Task(f"kitchen-{data}-v0", SUITE, f"{D4RL_SERVER}/kitchen/{file}-v0.hdf5", 0.0, 4.0, 280)


SUITE = Suite(
    "kitchen",
    config="kitchen",
    tasks=_tasks,
    environment="xql_jax.envs.robotics:Kitchen",
    packages=("mujoco", "gymnasium-robotics"),
    # A sixth of a step holds the GIL, and an environment takes 0.25 s and 56 MB.
    max_threads=8,
    max_environments=16,
    d4rl_packages=D4RL_PACKAGES,
    success="all four subtasks were done, which ends the episode; the score is the share of them",
    data_count_tasks=True,
)
