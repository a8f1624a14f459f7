"""OGBench's single tasks: robots in mazes and at tables (Park et al. 2025)."""

from collections.abc import Iterator

from xql_jax.suites import RETURN_ITSELF, DataFolder, Suite, Task, Values

_SERVER = "https://rail.eecs.berkeley.edu/datasets/ogbench"
# The environments, their datasets, and the steps of an episode; `ogbench` 1.2.2, without pictures.
_ENVIRONMENTS = (
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
_NUMBERS = ("", "-task1", "-task2", "-task3", "-task4", "-task5")  # without a number, it is the default task


def _tasks() -> Iterator[Task]:
    for environments, datasets, limit in _ENVIRONMENTS:
        for environment in environments.split():
            for dataset in datasets.split():
                url = f"{_SERVER}/{environment}-{dataset}-v0.npz"
                for number in _NUMBERS:
                    name = f"{environment}-{dataset}-singletask{number}-v0"
                    yield Task(name, _OGBENCH, url, *RETURN_ITSELF, limit, by_success=True)


# Widths, rates, discounts and layer norm are from seohongpark/fql (agents/, README.md). IQL's and IFQL's
# expectile and temperature are from its iql.py; FQL's `flow_alpha`, with Q in reward units, is by
# environment. Its README has ReBRAC's coefficients and IQL's temperature for humanoidmaze and, seen by
# cameras, the cube; the cube's are taken for all cubes, the maze's elsewhere. ReBRAC there has batches of
# 256: pass --batch_size=256. XQL's values are AntMaze's, with IQL's temperature. AntMaze's reward is -1 a
# step; at the table it is minus the number of parts that are not done, and so much larger is beta. Q has
# Huber's loss, as AntMaze's, and the clip is on both sides: docs/choosing-beta.md says why.
_BETA = 0.6  # for a reward of -1 a step
_FAR = {"all": {"discount": 0.995}}
_VALUES = Values(
    rows={
        "all": {"hidden_dims": (512,) * 4, "actor_lr": 3e-4, "value_lr": 3e-4, "critic_lr": 3e-4}
        | {"layer_norm": True, "critic_layer_norm": True, "decay_actor_lr": False},
        "in_sample": {"awr_temperature": 10.0},
        "xql": {"beta": _BETA, "clip": 7.0, "critic_loss": "huber"},
        "iql": {"expectile": 0.9},
        "rebrac": {"actor_bc_coef": 0.01, "critic_bc_coef": 0.01},
        "fql": {"normalize_q": False, "flow_alpha": 10.0},
    },
    when={
        "antsoccer": _FAR,
        "humanoidmaze": _FAR | {"fql": {"flow_alpha": 30.0}},
        "antmaze-giant": _FAR | {"fql": {"target_q": "min"}},
        "antmaze-large": {"fql": {"target_q": "min"}},
        "cube": {
            "xql iql xql_bellman mxql": {"awr_temperature": 1.0},
            "rebrac": {"actor_bc_coef": 1.0, "critic_bc_coef": 0.0},
            "fql": {"flow_alpha": 300.0},
        },
        "cube-double": {"xql": {"beta": 2 * _BETA}},
        "cube-triple": {"xql": {"beta": 3 * _BETA}},
        "cube-quadruple": {"xql": {"beta": 4 * _BETA}},
        "scene": {"xql": {"beta": 5 * _BETA}, "fql": {"flow_alpha": 300.0}},
        "puzzle": {"fql": {"flow_alpha": 1000.0}},
        "puzzle-3x3": {"xql": {"beta": 9 * _BETA}},
        "puzzle-4x4": {"xql": {"beta": 16 * _BETA}},
        "puzzle-4x5": {"xql": {"beta": 20 * _BETA}},
        "puzzle-4x6": {"xql": {"beta": 24 * _BETA}},
    },
)
_OGBENCH = Suite(
    "ogbench",
    config="ogbench",
    values=_VALUES,
    tasks=_tasks,
    environment="xql_jax.envs.ogbench:OGBench",
    packages=("mujoco", "ogbench"),
    max_environments=16,  # steps of 1 to 9 ms, mostly Python
    data_folder=DataFolder("OGBENCH_DATASET_DIR", "~/.ogbench/data"),
    reader="xql_jax.data.readers:read_ogbench",
    labels="xql_jax.envs.ogbench:rewarded",
)

RECORDS = (_OGBENCH,)
