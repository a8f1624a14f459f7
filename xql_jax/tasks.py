"""The tasks by name: where the data comes from, how long an episode is, how a return becomes a score."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from xql_jax.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Task:
    """One of D4RL's tasks, of the embedded `pointmaze-*` which share maze2d's rules and references, or of the
    tasks without a dataset, which are learnt online."""

    name: str
    suite: str  # locomotion, antmaze, kitchen, adroit, maze2d, bullet, pointmaze, dm_control or gymnasium
    dataset_url: str | None  # where D4RL serves the file; None where it is generated, or there is none
    min_return: float  # D4RL's reference returns: random policy ...
    max_return: float  # ... and expert; see `ONLINE_TASKS` for those of the tasks without a dataset
    episode_limit: int  # steps

    def normalized_score(self, returns: np.ndarray) -> np.ndarray:
        """D4RL's score of undiscounted returns: 0 at `min_return`, 100 at `max_return`."""
        return 100.0 * (returns - self.min_return) / (self.max_return - self.min_return)


class References(NamedTuple):
    """Returns, in a task's reward units, by which data say how others are to be scored."""

    random_return: float  # a random policy's: score 0
    expert_return: float  # an expert's: score 100


# Addresses, reference returns and limits are D4RL's: `d4rl.infos` and the `register` calls of its suites.
_SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl"

_QUALITIES = ("random", "medium", "expert", "medium-replay", "medium-expert")  # of locomotion's and bullet's
# Reference returns (random, expert), and the limit in steps where it differs within the suite.
_LOCOMOTION = {
    "halfcheetah": (-280.178953, 12135.0),
    "hopper": (-20.272305, 3234.3),
    "walker2d": (1.629008, 4592.3),
}
_ADROIT = {
    "pen": (96.262799, 3076.8331017826877, 100),
    "door": (-56.512833, 2880.5693087298737, 200),
    "hammer": (-274.856578, 12794.134825156867, 200),
    "relocate": (-6.425911, 4233.877797728884, 200),
}
_MAZE2D = {  # sparse, dense, limit
    "umaze": ((23.85, 161.86), (68.537689, 193.66285642381482), 300),
    "medium": ((13.13, 277.39), (44.264742, 297.4552547777125), 600),
    "large": ((6.7, 273.99), (30.569041, 303.4857382709002), 800),
}
_BULLET = {
    "halfcheetah": (-1275.766996, 2381.6725),
    "hopper": (20.058972, 1441.8059623430963),
    "ant": (373.705955, 2650.495),
    "walker2d": (16.523877, 1623.6476303317536),
}
_BULLET_MAZE2D = {
    "open": (8.75, 64.15, 150),
    "umaze": (32.46, 153.99, 300),
    "medium": (14.87, 238.05, 600),
    "large": (1.82, 285.92, 800),
}

# The DeepMind Control Suite's tasks by domain; importing it in order to ask takes a second or more.
_DM_CONTROL = {
    "acrobot": ("swingup", "swingup_sparse"),
    "ball_in_cup": ("catch",),
    "cartpole": ("balance", "balance_sparse", "swingup", "swingup_sparse", "two_poles", "three_poles"),
    "cheetah": ("run",),
    "dog": ("stand", "walk", "trot", "run", "fetch"),
    "finger": ("spin", "turn_easy", "turn_hard"),
    "fish": ("upright", "swim"),
    "hopper": ("stand", "hop"),
    "humanoid": ("stand", "walk", "run", "run_pure_state"),
    "humanoid_CMU": ("stand", "walk", "run"),
    "lqr": ("lqr_2_1", "lqr_6_2"),
    "manipulator": ("bring_ball", "bring_peg", "insert_ball", "insert_peg"),
    "pendulum": ("swingup",),
    "point_mass": ("easy", "hard"),
    "quadruped": ("walk", "run", "escape", "fetch"),
    "reacher": ("easy", "hard"),
    "stacker": ("stack_2", "stack_4"),
    "swimmer": ("swimmer6", "swimmer15"),
    "walker": ("stand", "walk", "run"),
}
_GYMNASIUM = {  # limits
    "Ant": 1000,
    "HalfCheetah": 1000,
    "Hopper": 1000,
    "Humanoid": 1000,
    "HumanoidStandup": 1000,
    "InvertedDoublePendulum": 1000,
    "InvertedPendulum": 1000,
    "Pusher": 100,
    "Reacher": 50,
    "Swimmer": 1000,
    "Walker2d": 1000,
}


def _locomotion_tasks() -> Iterator[Task]:
    for robot, returns in _LOCOMOTION.items():
        for data in _QUALITIES:
            stem = f"{robot}_{data.replace('-', '_')}"
            old_stem = stem.replace("medium_replay", "mixed").replace("walker2d_mixed", "walker_mixed")
            files = [f"gym_mujoco/{old_stem}", *(f"gym_mujoco_v{v}/{stem}-v{v}" for v in (1, 2))]
            for version, file in enumerate(files):
                name = f"{robot}-{data}-v{version}"
                yield Task(name, "locomotion", f"{_SERVER}/{file}.hdf5", *returns, episode_limit=1000)


def _antmaze_tasks() -> Iterator[Task]:
    # By version: D4RL's folder, its names of the mazes, and the end of the file's name.
    old_mazes = {"umaze": "u-maze", "medium": "big-maze", "large": "hardest-maze"}
    versions = [
        ("new", old_mazes, ""),
        ("v1", {maze: maze for maze in old_mazes}, ""),
        ("v2", old_mazes, "_fixed"),
    ]
    for data in ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse"):
        maze = data.split("-")[0]
        limit = 700 if maze == "umaze" else 1000
        starts = f"multistart_{data != 'umaze'}_multigoal_{data.endswith('diverse')}"
        for version, (folder, mazes, ending) in enumerate(versions):
            url = f"{_SERVER}/ant_maze_{folder}/Ant_maze_{mazes[maze]}_noisy_{starts}_sparse{ending}.hdf5"
            yield Task(f"antmaze-{data}-v{version}", "antmaze", url, 0.0, 1.0, limit)


def _kitchen_tasks() -> Iterator[Task]:
    files = {
        "complete": "mini_kitchen_microwave_kettle_light_slider",
        "partial": "kitchen_microwave_kettle_light_slider",
        "mixed": "kitchen_microwave_kettle_bottomburner_light",
    }
    for data, file in files.items():
        yield Task(f"kitchen-{data}-v0", "kitchen", f"{_SERVER}/kitchen/{file}-v0.hdf5", 0.0, 4.0, 280)


def _adroit_tasks() -> Iterator[Task]:
    old_files = {
        "human": "{}-v0_demos_clipped",
        "cloned": "{}-demos-v0-bc-combined",
        "expert": "{}-v0_expert_clipped",
    }
    for robot, reference in _ADROIT.items():
        for data, old_file in old_files.items():
            files = [f"hand_dapg/{old_file.format(robot)}", f"hand_dapg_v1/{robot}-{data}-v1"]
            for version, file in enumerate(files):
                yield Task(f"{robot}-{data}-v{version}", "adroit", f"{_SERVER}/{file}.hdf5", *reference)


def _maze_tasks() -> Iterator[Task]:
    for maze, (sparse, dense, limit) in _MAZE2D.items():
        url = f"{_SERVER}/maze2d/maze2d-{maze}"
        yield Task(f"maze2d-{maze}-v1", "maze2d", f"{url}-sparse-v1.hdf5", *sparse, limit)
        yield Task(f"maze2d-{maze}-dense-v1", "maze2d", f"{url}-dense-v1.hdf5", *dense, limit)
        yield Task(f"pointmaze-{maze}-v0", "pointmaze", None, *sparse, limit)


def _bullet_tasks() -> Iterator[Task]:
    for robot, returns in _BULLET.items():
        for data in _QUALITIES:
            url = f"{_SERVER}/bullet/bullet-{robot}_{data.replace('-', '_')}.hdf5"
            yield Task(f"bullet-{robot}-{data}-v0", "bullet", url, *returns, episode_limit=1000)
    for maze, reference in _BULLET_MAZE2D.items():
        url = f"{_SERVER}/bullet/bullet-maze2d-{maze}-sparse.hdf5"
        yield Task(f"bullet-maze2d-{maze}-v0", "bullet", url, *reference)


def _dm_control_tasks() -> Iterator[Task]:
    # A step earns from 0 to 1, so that a score is a tenth of the return.
    for domain, names in _DM_CONTROL.items():
        for name in names:
            yield Task(f"{domain}-{name}", "dm_control", None, 0.0, 1000.0, episode_limit=1000)


def _gymnasium_tasks() -> Iterator[Task]:
    # Nobody has set references: a score is the return itself.
    for name, limit in _GYMNASIUM.items():
        yield Task(f"{name}-v5", "gymnasium", None, 0.0, 100.0, limit)


_OFFLINE = (_locomotion_tasks, _antmaze_tasks, _kitchen_tasks, _adroit_tasks, _maze_tasks, _bullet_tasks)
_ONLINE = (_dm_control_tasks, _gymnasium_tasks)

TASKS: dict[str, Task] = {task.name: task for tasks in _OFFLINE for task in tasks()}
# Without a dataset: to be learnt online.
ONLINE_TASKS: dict[str, Task] = {task.name: task for tasks in _ONLINE for task in tasks()}


def referenced(task: Task, references: References | None) -> Task:
    """Returns the task with the references that data bring, where D4RL has set none for it."""
    if references is None or task.name not in ONLINE_TASKS:
        return task
    return dataclasses.replace(task, min_return=references.random_return, max_return=references.expert_return)


def get_task(name: str) -> Task:
    """Returns the task of that name, from `TASKS` or `ONLINE_TASKS`.

    Raises:
        UserError: naming the nearest known tasks.
    """
    known = TASKS | ONLINE_TASKS
    if name not in known:
        raise UserError(f"unknown environment {name!r}; nearest known: {nearest(name, known)}")
    return known[name]
