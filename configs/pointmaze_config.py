"""Point mazes, including D4RL's maze2d: values for runs of some 30,000 updates on a CPU."""

from ml_collections import ConfigDict

from xql_jax.configuration import suite_config

# XQL's values were chosen on umaze, seeds 100 to 103. Nothing in the data stays at a goal, so the policy must
# learn to brake there. That takes a small beta and a sharp policy, and a shorter horizon than usual keeps
# both stable. The minimum of two critics is too pessimistic here. The horizon is too short for large, where
# the goal is several hundred steps away.
SHARED = {
    "hidden_dims": (128, 128),
    **dict.fromkeys(("actor_lr", "value_lr", "critic_lr"), 1e-3),
    "tau": 0.02,
    "discount": 0.97,
    "layer_norm": False,
}
IN_SAMPLE = {"num_critics": 1, "awr_temperature": 30.0}
DIFFERENCES = {"xql": {"beta": 0.2, "clip": 5.0}, "iql": {"expectile": 0.9}}
VALUES = {"shared": SHARED, "in_sample": IN_SAMPLE, "differences": DIFFERENCES}


def get_config(algorithm: str = "xql") -> ConfigDict:
    return suite_config(algorithm, suites=("pointmaze", "maze2d"), **VALUES)
