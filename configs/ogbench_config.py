"""OGBench's single tasks: widths, rates, discounts and layer norm of seohongpark/fql (agents/, README.md).

IQL's and IFQL's expectile and temperature are those of its iql.py; FQL's `flow_alpha`, with Q in reward
units, is by environment. Its README has ReBRAC's coefficients and IQL's temperature for humanoidmaze and,
seen by cameras, the cube; the cube's are taken for all cubes, the maze's elsewhere. ReBRAC there has batches
of 256: pass --batch_size=256. XQL's values are AntMaze's, with IQL's temperature. AntMaze's reward is -1 a
step; at the table it is minus the number of parts that are not done, and so much larger is beta.
"""

from ml_collections import ConfigDict

from xql_jax.configuration import VARIANTS_OF_XQL, defaults, update_all, update_in_sample
from xql_jax.learners.registry import method_of

BETA = 0.6  # for a reward of -1 a step
# The parts that a step's reward counts, by the beginning of the task's name.
PARTS = {"cube-double": 2, "cube-triple": 3, "cube-quadruple": 4, "scene": 5}
PARTS |= {"puzzle-3x3": 9, "puzzle-4x4": 16, "puzzle-4x5": 20, "puzzle-4x6": 24}


def get_config(algorithm: str = "xql", env_name: str = "") -> ConfigDict:
    config = defaults(algorithm, "ogbench")
    method = method_of(algorithm)
    update_all(config, hidden_dims=(512, 512, 512, 512), actor_lr=3e-4, value_lr=3e-4, critic_lr=3e-4)
    update_all(config, layer_norm=True, critic_layer_norm=True, decay_actor_lr=False)
    if env_name.startswith(("antmaze-giant", "humanoidmaze", "antsoccer")):
        update_all(config, discount=0.995)
    update_in_sample(config, awr_temperature=10.0)
    is_cube = env_name.startswith("cube")
    if is_cube and method in (*VARIANTS_OF_XQL, "iql", "xql_bellman", "mxql"):
        update_all(config, awr_temperature=1.0)
    if method in VARIANTS_OF_XQL:
        update_all(config, beta=BETA, clip=7.0)
        for start, parts in PARTS.items():
            if env_name.startswith(start):
                update_all(config, beta=parts * BETA)
    if method == "iql":
        config.expectile = 0.9
    if method == "rebrac":
        config.actor_bc_coef = 1.0 if is_cube else 0.01
        config.critic_bc_coef = 0.0 if is_cube else 0.01
    if method == "fql":
        config.normalize_q = False
        config.flow_alpha = 10.0
        if env_name.startswith(("antmaze-large", "antmaze-giant")):
            config.target_q = "min"
        if env_name.startswith("humanoidmaze"):
            config.flow_alpha = 30.0
        if env_name.startswith(("cube", "scene")):
            config.flow_alpha = 300.0
        if env_name.startswith("puzzle"):
            config.flow_alpha = 1000.0
    return config
