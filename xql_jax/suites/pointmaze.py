"""The embedded mazes: the rules of maze2d, with data that are generated on this machine."""

import dataclasses
from collections.abc import Iterator

from xql_jax.suites import maze2d
from xql_jax.suites.record import Task


def _tasks() -> Iterator[Task]:
    for data in ("umaze", "medium", "large", "large-rare"):
        sparse, _, limit = maze2d.MAZE_RULES[data.split("-")[0]]
        yield Task(f"pointmaze-{data}-v0", SUITE, None, *sparse, limit)


SUITE = dataclasses.replace(
    maze2d.SUITE,
    name="pointmaze",
    tasks=_tasks,
    d4rl_packages=(),
    generates="xql_jax.data.pointmaze:write_generated",
)
