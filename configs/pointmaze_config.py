"""The point mazes, D4RL's maze2d among them: values for runs of some 30,000 updates on a CPU."""

from ml_collections import ConfigDict

from xql_jax.configuration import suite_config

# XQL's were chosen on umaze, seeds 100 to 103. Nothing in the data stays at a goal, so the policy must learn
# to brake there: that takes a small beta and a sharp policy, and a shorter horizon than usual keeps both
# stable. The least of two critics is too shy here. On large, whose goal is several hundred steps away, the
# horizon is too short.
SHARED = {
    "hidden_dims": (128, 128),
    "actor_lr": 1e-3,
    "value_lr": 1e-3,
    "critic_lr": 1e-3,
    "tau": 0.02,
    "discount": 0.97,
}
IN_SAMPLE = {"num_critics": 1, "awr_temperature": 30.0}
DIFFERENCES = {
    "xql": {**IN_SAMPLE, "beta": 0.2, "clip": 5.0},
    "iql": {**IN_SAMPLE, "expectile": 0.9},
}


def get_config(algorithm: str = "xql") -> ConfigDict:
    suites = ("pointmaze", "maze2d")
    return suite_config(algorithm, suites=suites, differences=DIFFERENCES, shared=SHARED)
