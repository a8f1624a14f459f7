"""OGBench's single tasks: widths, rates, discounts and layer norm of seohongpark/fql (agents/, README.md).

IQL's and IFQL's expectile and temperature are those of its iql.py; FQL's `flow_alpha`, with Q in reward
units, is by environment. Its README has ReBRAC's coefficients and IQL's temperature for humanoidmaze and,
seen by cameras, the cube; the cube's are taken for all cubes, the maze's elsewhere. ReBRAC there has batches
of 256: pass --batch_size=256. XQL's values are AntMaze's, with IQL's temperature. AntMaze's reward is -1 a
step; at the table it is minus the number of parts that are not done, and so much larger is beta.
"""

from ml_collections import ConfigDict

from xql_jax.configuration import suite_config

SHARED = {
    "hidden_dims": (512, 512, 512, 512),
    **dict.fromkeys(("actor_lr", "value_lr", "critic_lr"), 3e-4),
    **dict.fromkeys(("layer_norm", "critic_layer_norm"), True),
    "decay_actor_lr": False,
}
IN_SAMPLE = {"awr_temperature": 10.0}
BETA = 0.6  # for a reward of -1 a step
DIFFERENCES = {
    "xql": {"beta": BETA, "clip": 7.0},
    "iql": {"expectile": 0.9},
    "fql": {"normalize_q": False, "flow_alpha": 10.0},
    "rebrac": {"actor_bc_coef": 0.01, "critic_bc_coef": 0.01},
}
LONG = {"discount": 0.995}
PARTS = {"cube-double": 2, "cube-triple": 3, "cube-quadruple": 4}  # counted by a step's reward
PARTS |= {"puzzle-3x3": 9, "puzzle-4x4": 16, "puzzle-4x5": 20, "puzzle-4x6": 24}
BY_ENVIRONMENT = {  # by the beginning of the task's name
    "antmaze-large": {"fql": {"target_q": "min"}},
    "antmaze-giant": {"": LONG, "fql": {"target_q": "min"}},
    "humanoidmaze": {"": LONG, "fql": {"flow_alpha": 30.0}},
    "antsoccer": {"": LONG},
    "cube": {
        "fql": {"flow_alpha": 300.0},
        **{method: {"awr_temperature": 1.0} for method in ("iql", "xql", "xql_bellman", "mxql")},
        "rebrac": {"actor_bc_coef": 1.0, "critic_bc_coef": 0.0},
    },
    "scene": {"fql": {"flow_alpha": 300.0}, "xql": {"beta": 5 * BETA}},
    "puzzle": {"fql": {"flow_alpha": 1000.0}},
    **{start: {"xql": {"beta": parts * BETA}} for start, parts in PARTS.items()},
}


def get_config(algorithm: str = "xql") -> ConfigDict:
    return suite_config(
        algorithm,
        suites=("ogbench",),
        differences=DIFFERENCES,
        shared=SHARED,
        in_sample=IN_SAMPLE,
        by_environment=BY_ENVIRONMENT,
    )
