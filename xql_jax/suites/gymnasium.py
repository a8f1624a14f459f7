"""Gymnasium's MuJoCo tasks, for online learning."""

from collections.abc import Iterator

from xql_jax.suites.record import RETURN_ITSELF, Suite, Task

_NAMES = """
Ant HalfCheetah Hopper Humanoid HumanoidStandup InvertedDoublePendulum InvertedPendulum Pusher Reacher Swimmer
Walker2d
"""
_SHORTER = {"Pusher": 100, "Reacher": 50}  # steps, of 1,000


def _tasks() -> Iterator[Task]:
    for name in _NAMES.split():
        yield Task(f"{name}-v5", SUITE, None, *RETURN_ITSELF, _SHORTER.get(name, 1000))


SUITE = Suite(
    "gymnasium",
    config="mujoco",
    tasks=_tasks,
    environment="xql_jax.envs.registered:Registered",
    packages=("mujoco", "gymnasium"),
    bounds_from_environment=True,
    scales_rewards=True,
)
