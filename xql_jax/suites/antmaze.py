"""D4RL's antmaze: a four-legged robot is to walk through a maze to a goal."""

from collections.abc import Iterator

from xql_jax.suites.record import D4RL_PACKAGES, D4RL_SERVER, Suite, Task

_OLD_MAZES = {"umaze": "u-maze", "medium": "big-maze", "large": "hardest-maze"}
# For each version: D4RL's folder, its names of the mazes, and the ending of the file's name.
_VERSIONS = (
    ("new", _OLD_MAZES, ""),
    ("v1", {maze: maze for maze in _OLD_MAZES}, ""),
    ("v2", _OLD_MAZES, "_fixed"),
)


def _tasks() -> Iterator[Task]:
    for data in ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse"):
        maze = data.split("-")[0]
        limit = 700 if maze == "umaze" else 1000
        starts = f"multistart_{data != 'umaze'}_multigoal_{data.endswith('diverse')}"
        for version, (folder, mazes, ending) in enumerate(_VERSIONS):
            file = f"ant_maze_{folder}/Ant_maze_{mazes[maze]}_noisy_{starts}_sparse{ending}.hdf5"
            yield Task(f"antmaze-{data}-v{version}", SUITE, f"{D4RL_SERVER}/{file}", 0.0, 1.0, limit)


SUITE = Suite(
    "antmaze",
    config="antmaze",
    tasks=_tasks,
    environment="xql_jax.envs.ant_maze:AntMaze",
    packages=("mujoco", "gymnasium"),
    max_threads=8,  # steps of 0.25 ms, of which a tenth holds the GIL: a second thread gains three quarters
    has_legacy_inertia=True,
    d4rl_packages=D4RL_PACKAGES,
    eval_episodes=100,
    success="the goal was reached, which ends the episode",
    has_waypoints=True,
    reward_shift=-1.0,
)
