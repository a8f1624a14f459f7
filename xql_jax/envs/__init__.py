"""Environments by task. A new suite is one factory below and one line in SUITES."""

import dataclasses
import os
from collections.abc import Callable

from xql_jax.errors import UserError
from xql_jax.tasks import Task
from xql_jax.types import Environment


def _point_maze(task: Task) -> Environment:
    from xql_jax.envs.point_maze import PointMaze

    return PointMaze.for_task(task)


def _kitchen(task: Task) -> Environment:
    from xql_jax.envs.kitchen import Kitchen

    return Kitchen.for_task(task)


@dataclasses.dataclass(frozen=True)
class Suite:
    """How to make a suite's environments, and how many are worth having."""

    make: Callable[[Task], Environment]
    num_threads: int = 1  # that step at once: pays for steps of a millisecond, slows those of microseconds
    max_environments: int = 64  # that exist at once, or one a member if that is more: few where they are dear


SUITES = {
    "maze2d": Suite(_point_maze),
    "pointmaze": Suite(_point_maze),
    # A sixth of a step holds the GIL, and an environment takes 0.25 s and 56 MB.
    "kitchen": Suite(_kitchen, num_threads=min(os.cpu_count() or 1, 8), max_environments=16),
}


def get_suite(task: Task) -> Suite:
    """Returns the suite of a task.

    Raises:
        UserError: if its environments are not here yet.
    """
    if task.suite not in SUITES:
        raise UserError(
            f"no environment for {task.name} yet (suite {task.suite}): train with --eval_episodes=0; "
            f"environments exist for: {', '.join(SUITES)}"
        )
    return SUITES[task.suite]


def make_environment(task: Task) -> Environment:
    """Returns a new environment of the task; `reset(seed=...)` alone determines its episode.

    Raises:
        UserError: if the suite's environments are not here yet.
    """
    return get_suite(task).make(task)
