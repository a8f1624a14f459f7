"""The tasks by name: where the data comes from, how long an episode is, how a return becomes a score."""

import contextlib
import dataclasses
import importlib
import math
import os
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from xql_jax.errors import UserError, described, nearest

LONGEST = 10_000  # steps of an episode without a limit, which might never end
RETURN_ITSELF = (0.0, 100.0)  # the references of tasks that have none; they leave a return as it is


@dataclasses.dataclass(frozen=True)
class Task:
    """A task of D4RL or for online learning, an embedded `pointmaze-*` (maze2d's rules), or a user's own."""

    name: str
    # locomotion, antmaze, kitchen, adroit, maze2d, bullet, pointmaze, ogbench, dm_control, gymnasium,
    # compiled or own
    suite: str
    dataset_url: str | None  # address of D4RL's or OGBench's file; None: the data are generated, or none
    min_return: float  # D4RL's reference returns: random policy ...
    max_return: float  # ... and expert; see `ONLINE_TASKS` for those of the tasks without a dataset
    episode_limit: int | None  # steps; None: the environment ends its episodes itself
    by_success: bool = False  # whether an episode's score is 100 if it succeeds, else 0, as on OGBench

    @property
    def longest(self) -> int:
        """The most steps that an episode is run for."""
        return self.episode_limit or LONGEST

    @property
    def is_normalised(self) -> bool:
        """Whether a score is not the return itself: it has reference returns, or is scored by success."""
        return self.by_success or self.scores_returns

    @property
    def scores_returns(self) -> bool:
        """Whether it has reference returns, between which a return is a score."""
        return (self.min_return, self.max_return) != RETURN_ITSELF

    @property
    def quantity(self) -> str:
        """What its scores are called."""
        return "score" if self.is_normalised else "return"

    def normalized_score(self, returns: np.ndarray, successes: np.ndarray | None = None) -> np.ndarray:
        """D4RL's score of undiscounted returns, 0 at `min_return`, 100 at `max_return`; or by success."""
        if self.by_success:
            return 100.0 * np.asarray(successes, float)
        return 100.0 * (returns - self.min_return) / (self.max_return - self.min_return)


class References(NamedTuple):
    """Reference returns that a dataset brings for scoring, in the task's reward units."""

    random_return: float  # a random policy's: score 0
    expert_return: float  # an expert's: score 100


def references_given(texts: Sequence[str], names: Collection[str]) -> dict[str, References]:
    """Parses TASK=RANDOM,EXPERT; UserError unless each is one of the names, a task without scores."""
    found, known = {}, TASKS | ONLINE_TASKS | COMPILED_TASKS
    for text in texts:
        task, _, returns = text.partition("=")
        with contextlib.suppress(ValueError):
            low, high = map(float, returns.split(","))
            has_none = task in names and not (task in known and known[task].is_normalised)
            if has_none and 0 < high - low < math.inf:
                found[task] = References(low, high)
        if task not in found:
            raise UserError(
                f"--references={text}: must be TASK=RANDOM,EXPERT: a task of these runs, whose scores are "
                "returns, and two returns, the second the larger one"
            )
    return found


# Addresses, reference returns and limits are D4RL's: `d4rl.infos` and the `register` calls of its suites.
_SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl"

_QUALITIES = ("random", "medium", "expert", "medium-replay", "medium-expert")  # in locomotion and bullet
# Reference returns (random, expert), and the episode limit in steps if it differs within the suite.
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

# OGBench's environments, their datasets, and the episodes' limits; `ogbench` 1.2.2, without pictures.
_OGBENCH_SERVER = "https://rail.eecs.berkeley.edu/datasets/ogbench"
_OGBENCH = (
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

# The DeepMind Control Suite's tasks by domain. They are listed here because importing it takes a second.
_DM_CONTROL = """
acrobot swingup swingup_sparse
ball_in_cup catch
cartpole balance balance_sparse swingup swingup_sparse two_poles three_poles
cheetah run
dog stand walk trot run fetch
finger spin turn_easy turn_hard
fish upright swim
hopper stand hop
humanoid stand walk run run_pure_state
humanoid_CMU stand walk run
lqr lqr_2_1 lqr_6_2
manipulator bring_ball bring_peg insert_ball insert_peg
pendulum swingup
point_mass easy hard
quadruped walk run escape fetch
reacher easy hard
stacker stack_2 stack_4
swimmer swimmer6 swimmer15
walker stand walk run
"""
_GYMNASIUM = """
Ant HalfCheetah Hopper Humanoid HumanoidStandup InvertedDoublePendulum InvertedPendulum Pusher Reacher Swimmer
Walker2d
"""
_SHORTER = {"Pusher": 100, "Reacher": 50}  # steps, of 1,000

# DM Control's tasks that MuJoCo Playground has in JAX, under names such as CheetahRun.
_IN_PLAYGROUND = """
acrobot-swingup acrobot-swingup_sparse ball_in_cup-catch cartpole-balance cartpole-balance_sparse
cartpole-swingup cartpole-swingup_sparse cheetah-run finger-spin finger-turn_easy finger-turn_hard fish-swim
hopper-hop hopper-stand humanoid-run humanoid-stand humanoid-walk pendulum-swingup point_mass-easy
reacher-easy reacher-hard swimmer-swimmer6 walker-run walker-stand walker-walk
"""
_SHORTENED = {"ball_in_cup-catch": "BallInCup", "point_mass-easy": "PointMass"}


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
    # For each version: D4RL's folder, its names of the mazes, and the ending of the file's name.
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
    for data, file in (
        ("complete", "mini_kitchen_microwave_kettle_light_slider"),
        ("partial", "kitchen_microwave_kettle_light_slider"),
        ("mixed", "kitchen_microwave_kettle_bottomburner_light"),
    ):
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
    sparse, _, limit = _MAZE2D["large"]
    yield Task("pointmaze-large-rare-v0", "pointmaze", None, *sparse, limit)


def _bullet_tasks() -> Iterator[Task]:
    for robot, returns in _BULLET.items():
        for data in _QUALITIES:
            url = f"{_SERVER}/bullet/bullet-{robot}_{data.replace('-', '_')}.hdf5"
            yield Task(f"bullet-{robot}-{data}-v0", "bullet", url, *returns, episode_limit=1000)
    for maze, reference in _BULLET_MAZE2D.items():
        url = f"{_SERVER}/bullet/bullet-maze2d-{maze}-sparse.hdf5"
        yield Task(f"bullet-maze2d-{maze}-v0", "bullet", url, *reference)


def _ogbench_tasks() -> Iterator[Task]:
    for environments, datasets, limit in _OGBENCH:
        for environment in environments.split():
            for dataset in datasets.split():
                url = f"{_OGBENCH_SERVER}/{environment}-{dataset}-v0.npz"
                for number in ("", *(f"-task{number}" for number in range(1, 6))):
                    name = f"{environment}-{dataset}-singletask{number}-v0"
                    yield Task(name, "ogbench", url, *RETURN_ITSELF, limit, by_success=True)


def _online_tasks() -> Iterator[Task]:
    for domain, *names in map(str.split, _DM_CONTROL.strip().splitlines()):
        for name in names:  # a step's reward is at most 1: a score is a tenth of the return
            yield Task(f"{domain}-{name}", "dm_control", None, 0.0, 1000.0, episode_limit=1000)
    for name in _GYMNASIUM.split():
        yield Task(f"{name}-v5", "gymnasium", None, *RETURN_ITSELF, _SHORTER.get(name, 1000))


OWN = "own"  # the suite of users' environments that Gymnasium makes
COMPILED = "compiled"  # the suite of environments in JAX, Playground's and users' own
PLAYGROUND = "playground"  # module in the names of Playground's tasks, playground:NAME
LIBRARIES = ("gymnasium", "gymnasium_robotics", PLAYGROUND, "xql_jax")  # modules that are no user's own

_D4RL = (_locomotion_tasks, _antmaze_tasks, _kitchen_tasks, _adroit_tasks, _maze_tasks, _bullet_tasks)
TASKS: dict[str, Task] = {task.name: task for tasks in (*_D4RL, _ogbench_tasks) for task in tasks()}
# Tasks without a dataset, for online learning.
ONLINE_TASKS: dict[str, Task] = {task.name: task for task in _online_tasks()}
# Tasks for online learning in JAX environments, which are compiled into the same program as the learner.
_DM_CONTROL_NAMES = {
    f"{PLAYGROUND}:{_SHORTENED.get(name) or ''.join(map(str.capitalize, re.split('[-_]', name)))}": name
    for name in _IN_PLAYGROUND.split()
}
COMPILED_TASKS: dict[str, Task] = {
    name: dataclasses.replace(ONLINE_TASKS[twin], name=name, suite=COMPILED)
    for name, twin in _DM_CONTROL_NAMES.items()
}


def referenced(task: Task, references: References | None) -> Task:
    """Returns the task with the reference returns from its data, if D4RL has none for the task."""
    if references is None or not (task.name in ONLINE_TASKS or task.suite in (OWN, COMPILED)):
        return task
    return dataclasses.replace(task, min_return=references.random_return, max_return=references.expert_return)


def get_task(name: str) -> Task:
    """Returns the task of that name; MODULE:NAME and Gymnasium's are users' own. UserError if unknown."""
    known = TASKS | ONLINE_TASKS | COMPILED_TASKS
    if name in known:
        return known[name]
    module, colon, _ = name.partition(":")
    if colon and module != PLAYGROUND:
        return _own_task(name)
    gymnasium: Any = importlib.import_module("gymnasium")  # takes half a second, which known tasks can save
    # HalfCheetah-v2 and -v3 are registered, but gone: their simulator was mujoco-py.
    others = {one for one in gymnasium.registry if one.endswith("-v4") or f"{one[:-1]}5" not in known}
    if name in others:
        return _own_task(f"gymnasium:{name}")
    near = nearest(name.removeprefix("dm_control/"), COMPILED_TASKS if colon else {*known, *others})
    what = "gone from Gymnasium: " if name in gymnasium.registry else "unknown environment "
    how = "one of your own or of another package is MODULE:NAME, such as gymnasium_robotics:AdroitHandPen-v1"
    if name.startswith(("D4RL/", "mujoco/")):
        how = f"Minari's data are --dataset=minari:{name}"
    raise UserError(f"{what}{name!r}; nearest known: {near}; {how}")


def name_in_dm_control(task: Task) -> str:
    """Returns DM Control's name for a Playground task; for other tasks, their own name."""
    return _DM_CONTROL_NAMES.get(task.name, task.name)


def module_to_run(name: str) -> str:
    """Returns the user's module whose code `get_task` would run for MODULE:NAME; "" if it would run none."""
    module, colon, _ = name.partition(":")
    is_known = module in sys.modules or module.partition(".")[0] in LIBRARIES
    return "" if is_known or not colon else module


def own_attribute(name: str, flag: str = "--env_name") -> Any:
    """Returns the attribute NAME of MODULE:NAME, None if it has none; UserError if MODULE does not import."""
    module, _, attribute = name.partition(":")
    # sys.path has the script's folder, not the current one, in which a library's name may be another's code.
    if module_to_run(name) and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except (Exception, SystemExit) as error:  # it is the user's code, and may fail in any way
        raise UserError(
            f"{flag}={name}: the module {module!r} does not import here: {described(error)}"
        ) from error


def _own_task(name: str) -> Task:
    """Returns the task for MODULE:NAME, which MODULE registers with Gymnasium, or a JAX environment in it."""
    gymnasium: Any = importlib.import_module("gymnasium")
    attribute = own_attribute(name)
    module, _, registered = name.partition(":")
    try:
        suite, limit = OWN, gymnasium.spec(registered).max_episode_steps
    except gymnasium.error.Error as error:
        if not hasattr(attribute, "episode_limit"):
            raise UserError(
                f"--env_name={name}: {module} registers no such environment ({error}), nor is {registered} "
                "in it an environment in JAX, a class with an episode_limit"
            ) from error
        suite, limit = COMPILED, attribute.episode_limit
    ends_itself = limit is None and suite == OWN
    if not ends_itself and not (isinstance(limit, int) and limit > 0):
        raise UserError(
            f"--env_name={name}: episodes of {limit} steps: give max_episode_steps (in JAX, episode_limit) "
            "of at least 1; Gymnasium's may be left out if the environment ends its episodes itself"
        )
    return Task(name, suite, None, *RETURN_ITSELF, limit)
