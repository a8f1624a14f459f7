"""OGBench's single tasks: widths, rates, discounts and layer norm of seohongpark/fql (agents/, README.md).

IQL's and IFQL's expectile and temperature are those of its iql.py; FQL's `flow_alpha`, with Q in reward
units, is by environment. Its README has ReBRAC's coefficients and IQL's temperature for humanoidmaze and,
seen by cameras, the cube; the cube's are taken for all cubes, the maze's elsewhere. ReBRAC there has batches
of 256: pass --batch_size=256. XQL's values are AntMaze's, with IQL's temperature. AntMaze's reward is -1 a
step; at the table it is minus the number of parts that are not done, and so much larger is beta. Q has
Huber's loss, as AntMaze's, and the clip is on both sides: docs/choosing-beta.md says why.
"""

from ml_collections import ConfigDict

from xql_jax.runs.config_files import config_of

BETA = 0.6  # for a reward of -1 a step
ROWS = {
    "all": {"hidden_dims": (512,) * 4, "actor_lr": 3e-4, "value_lr": 3e-4, "critic_lr": 3e-4}
    | {"layer_norm": True, "critic_layer_norm": True, "decay_actor_lr": False},
    "in_sample": {"awr_temperature": 10.0},
    "xql": {"beta": BETA, "clip": 7.0, "critic_loss": "huber"},
    "iql": {"expectile": 0.9},
    "rebrac": {"actor_bc_coef": 0.01, "critic_bc_coef": 0.01},
    "fql": {"normalize_q": False, "flow_alpha": 10.0},
}
FAR = {"all": {"discount": 0.995}}
# By the beginning of the task's name. At the table, a step's reward counts the parts that are not done.
WHEN = {
    "antsoccer": FAR,
    "humanoidmaze": FAR | {"fql": {"flow_alpha": 30.0}},
    "antmaze-giant": FAR | {"fql": {"target_q": "min"}},
    "antmaze-large": {"fql": {"target_q": "min"}},
    "cube": {
        "xql iql xql_bellman mxql": {"awr_temperature": 1.0},
        "rebrac": {"actor_bc_coef": 1.0, "critic_bc_coef": 0.0},
        "fql": {"flow_alpha": 300.0},
    },
    "cube-double": {"xql": {"beta": 2 * BETA}},
    "cube-triple": {"xql": {"beta": 3 * BETA}},
    "cube-quadruple": {"xql": {"beta": 4 * BETA}},
    "scene": {"xql": {"beta": 5 * BETA}, "fql": {"flow_alpha": 300.0}},
    "puzzle": {"fql": {"flow_alpha": 1000.0}},
    "puzzle-3x3": {"xql": {"beta": 9 * BETA}},
    "puzzle-4x4": {"xql": {"beta": 16 * BETA}},
    "puzzle-4x5": {"xql": {"beta": 20 * BETA}},
    "puzzle-4x6": {"xql": {"beta": 24 * BETA}},
}


def get_config(text: str = "xql") -> ConfigDict:
    return config_of(text, "ogbench", ROWS, WHEN)
