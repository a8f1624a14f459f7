"""D4RL's suites, and the embedded mazes, which follow the rules of its maze2d."""

import dataclasses
from collections.abc import Iterator

from xql_jax.suites import Suite, Task

_SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
_QUALITIES = ("random", "medium", "expert", "medium-replay", "medium-expert")  # of the data

# Locomotion: halfcheetah, hopper and walker2d are to run as fast as they can.

_ROBOT_RETURNS = {  # of a random policy and of an expert, from `d4rl.infos`
    "halfcheetah": (-280.178953, 12135.0),
    "hopper": (-20.272305, 3234.3),
    "walker2d": (1.629008, 4592.3),
}


def _locomotion_tasks() -> Iterator[Task]:
    for robot, returns in _ROBOT_RETURNS.items():
        for data in _QUALITIES:
            stem = f"{robot}_{data.replace('-', '_')}"
            old_stem = stem.replace("medium_replay", "mixed").replace("walker2d_mixed", "walker_mixed")
            files = [f"gym_mujoco/{old_stem}", *(f"gym_mujoco_v{v}/{stem}-v{v}" for v in (1, 2))]
            for version, file in enumerate(files):
                name = f"{robot}-{data}-v{version}"
                yield Task(name, _LOCOMOTION, f"{_SERVER}/{file}.hdf5", *returns, episode_limit=1000)


_LOCOMOTION = Suite(
    "locomotion",
    config="mujoco",
    reads_as_d4rl=True,
    tasks=_locomotion_tasks,
    environment="xql_jax.envs.locomotion:Locomotion",
    packages=("mujoco", "gymnasium"),
    # Ten environments per call: two threads gain a third in hopper and walker2d, and lose 6% in halfcheetah.
    max_threads=2,
    scales_rewards=True,
)

# Antmaze: a four-legged robot is to walk through a maze to a goal.

_OLD_MAZES = {"umaze": "u-maze", "medium": "big-maze", "large": "hardest-maze"}
# For each version: D4RL's folder, its names of the mazes, and the ending of the file's name.
_ANTMAZE_VERSIONS = (
    ("new", _OLD_MAZES, ""),
    ("v1", {maze: maze for maze in _OLD_MAZES}, ""),
    ("v2", _OLD_MAZES, "_fixed"),
)


def _antmaze_tasks() -> Iterator[Task]:
    for data in ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse"):
        maze = data.split("-")[0]
        limit = 700 if maze == "umaze" else 1000
        starts = f"multistart_{data != 'umaze'}_multigoal_{data.endswith('diverse')}"
        for version, (folder, mazes, ending) in enumerate(_ANTMAZE_VERSIONS):
            file = f"ant_maze_{folder}/Ant_maze_{mazes[maze]}_noisy_{starts}_sparse{ending}.hdf5"
            yield Task(f"antmaze-{data}-v{version}", _ANTMAZE, f"{_SERVER}/{file}", 0.0, 1.0, limit)


_ANTMAZE = Suite(
    "antmaze",
    config="antmaze",
    reads_as_d4rl=True,
    tasks=_antmaze_tasks,
    environment="xql_jax.envs.ant_maze:AntMaze",
    packages=("mujoco", "gymnasium"),
    max_threads=8,  # steps of 0.25 ms, of which a tenth holds the GIL: a second thread gains three quarters
    eval_episodes=100,
    success="the goal was reached, which ends the episode",
    reward_shift=-1.0,
)

# Kitchen: an arm is to do four household tasks.

_KITCHEN_FILES = {
    "complete": "mini_kitchen_microwave_kettle_light_slider",
    "partial": "kitchen_microwave_kettle_light_slider",
    "mixed": "kitchen_microwave_kettle_bottomburner_light",
}


def _kitchen_tasks() -> Iterator[Task]:
    for data, file in _KITCHEN_FILES.items():
        yield Task(f"kitchen-{data}-v0", _KITCHEN, f"{_SERVER}/kitchen/{file}-v0.hdf5", 0.0, 4.0, 280)


_KITCHEN = Suite(
    "kitchen",
    config="kitchen",
    reads_as_d4rl=True,
    tasks=_kitchen_tasks,
    environment="xql_jax.envs.robotics:Kitchen",
    packages=("mujoco", "gymnasium-robotics"),
    # A sixth of a step holds the GIL, and an environment takes 0.25 s and 56 MB.
    max_threads=8,
    max_environments=16,
    success="all four subtasks were done, which ends the episode; the score is the share of them",
    data_rewards="xql_jax.data.d4rl_rewards:kitchen_rewards",
)

# Adroit: a hand is to turn a pen, open a door, hammer in a nail, or move a ball.

_ADROIT_RULES = {  # returns of a random policy and of an expert, from `d4rl.infos`; steps of an episode
    "pen": (96.262799, 3076.8331017826877, 100),
    "door": (-56.512833, 2880.5693087298737, 200),
    "hammer": (-274.856578, 12794.134825156867, 200),
    "relocate": (-6.425911, 4233.877797728884, 200),
}
_OLD_ADROIT_FILES = {
    "human": "{}-v0_demos_clipped",
    "cloned": "{}-demos-v0-bc-combined",
    "expert": "{}-v0_expert_clipped",
}


def _adroit_tasks() -> Iterator[Task]:
    for robot, rules in _ADROIT_RULES.items():
        for data, old_file in _OLD_ADROIT_FILES.items():
            files = [f"hand_dapg/{old_file.format(robot)}", f"hand_dapg_v1/{robot}-{data}-v1"]
            for version, file in enumerate(files):
                yield Task(f"{robot}-{data}-v{version}", _ADROIT, f"{_SERVER}/{file}.hdf5", *rules)


_ADROIT = Suite(
    "adroit",
    config="adroit",
    reads_as_d4rl=True,
    tasks=_adroit_tasks,
    environment="xql_jax.envs.robotics:Adroit",
    packages=("mujoco", "gymnasium-robotics"),
    max_threads=4,  # two threads on two cores make 1.5 times as many steps as one
    success="the goal was met in more steps than D4RL asks for; the score is of the summed rewards",
)

# Maze2d: a ball is to be pushed through a maze to a goal, and kept there.

# Returns of a random policy and of an expert, from `d4rl.infos`: sparse, dense; steps of an episode.
_MAZE2D_RULES = {
    "umaze": ((23.85, 161.86), (68.537689, 193.66285642381482), 300),
    "medium": ((13.13, 277.39), (44.264742, 297.4552547777125), 600),
    "large": ((6.7, 273.99), (30.569041, 303.4857382709002), 800),
}


def _maze2d_tasks() -> Iterator[Task]:
    for maze, (sparse, dense, limit) in _MAZE2D_RULES.items():
        url = f"{_SERVER}/maze2d/maze2d-{maze}"
        yield Task(f"maze2d-{maze}-v1", _MAZE2D, f"{url}-sparse-v1.hdf5", *sparse, limit)
        yield Task(f"maze2d-{maze}-dense-v1", _MAZE2D, f"{url}-dense-v1.hdf5", *dense, limit)


def _pointmaze_tasks() -> Iterator[Task]:
    for data in ("umaze", "medium", "large", "large-rare"):
        sparse, _, limit = _MAZE2D_RULES[data.split("-")[0]]
        yield Task(f"pointmaze-{data}-v0", _POINTMAZE, None, *sparse, limit)


_MAZE2D = Suite(
    "maze2d",
    config="pointmaze",
    reads_as_d4rl=True,
    tasks=_maze2d_tasks,
    environment="xql_jax.envs.point_maze:PointMaze",
    packages=("mujoco",),
    success="the goal was reached at least once in the episode; the score counts the steps that are spent "
    "there",
    data_rewards="xql_jax.data.d4rl_rewards:maze_rewards",
)
_POINTMAZE = dataclasses.replace(  # its data are generated on this machine
    _MAZE2D,
    name="pointmaze",
    tasks=_pointmaze_tasks,
    generates="xql_jax.data.pointmaze:write_generated",
)

RECORDS = (_LOCOMOTION, _ANTMAZE, _KITCHEN, _ADROIT, _MAZE2D, _POINTMAZE)
