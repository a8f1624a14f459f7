"""D4RL's maze2d: a ball is to be pushed through a maze to a goal, and kept there."""

from collections.abc import Iterator

from xql_jax.suites.record import D4RL_PACKAGES, D4RL_SERVER, Suite, Task

# Returns of a random policy and of an expert, from `d4rl.infos`: sparse, dense; steps of an episode.
MAZE_RULES = {
    "umaze": ((23.85, 161.86), (68.537689, 193.66285642381482), 300),
    "medium": ((13.13, 277.39), (44.264742, 297.4552547777125), 600),
    "large": ((6.7, 273.99), (30.569041, 303.4857382709002), 800),
}


def _tasks() -> Iterator[Task]:
    for maze, (sparse, dense, limit) in MAZE_RULES.items():
        url = f"{D4RL_SERVER}/maze2d/maze2d-{maze}"
        yield Task(f"maze2d-{maze}-v1", SUITE, f"{url}-sparse-v1.hdf5", *sparse, limit)
        yield Task(f"maze2d-{maze}-dense-v1", SUITE, f"{url}-dense-v1.hdf5", *dense, limit)


SUITE = Suite(
    "maze2d",
    config="pointmaze",
    tasks=_tasks,
    environment="xql_jax.envs.point_maze:PointMaze",
    d4rl_packages=D4RL_PACKAGES,
    success="the goal was reached at least once in the episode; the score counts the steps that are spent "
    "there",
    draws_maze=True,
)
