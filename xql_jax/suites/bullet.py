"""D4RL's tasks in PyBullet: robots that run, and mazes."""

import dataclasses
from collections.abc import Iterator

from xql_jax.suites.locomotion import QUALITIES
from xql_jax.suites.record import D4RL_SERVER, Suite, Task

_RETURNS = {  # of a random policy and of an expert, from `d4rl.infos`
    "halfcheetah": (-1275.766996, 2381.6725),
    "hopper": (20.058972, 1441.8059623430963),
    "ant": (373.705955, 2650.495),
    "walker2d": (16.523877, 1623.6476303317536),
}
_MAZE_RULES = {  # the same, and the steps of an episode
    "open": (8.75, 64.15, 150),
    "umaze": (32.46, 153.99, 300),
    "medium": (14.87, 238.05, 600),
    "large": (1.82, 285.92, 800),
}


def _tasks() -> Iterator[Task]:
    for robot, returns in _RETURNS.items():
        for data in QUALITIES:
            url = f"{D4RL_SERVER}/bullet/bullet-{robot}_{data.replace('-', '_')}.hdf5"
            yield Task(f"bullet-{robot}-{data}-v0", SUITE, url, *returns, episode_limit=1000)
    mazes = dataclasses.replace(SUITE, scales_rewards=False)  # a goal's reward, which IQL does not scale
    for maze, rules in _MAZE_RULES.items():
        url = f"{D4RL_SERVER}/bullet/bullet-maze2d-{maze}-sparse.hdf5"
        yield Task(f"bullet-maze2d-{maze}-v0", mazes, url, *rules)


SUITE = Suite(
    "bullet",
    config="mujoco",
    tasks=_tasks,
    d4rl_packages=("pybullet", "d4rl", "gym"),
    scales_rewards=True,
)
