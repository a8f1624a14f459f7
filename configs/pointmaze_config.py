"""The point mazes, D4RL's maze2d among them: values for runs of some 30,000 updates on a CPU."""

from ml_collections import ConfigDict

from xql_jax.configuration import suite_config

IN_SAMPLE = {
    "hidden_dims": (128, 128),
    "actor_lr": 1e-3,
    "value_lr": 1e-3,
    "critic_lr": 1e-3,
    "tau": 0.02,
    "awr_temperature": 10.0,
}
DIFFERENCES = {
    "xql": {**IN_SAMPLE, "beta": 0.5, "clip": 7.0},
    "iql": {**IN_SAMPLE, "expectile": 0.9},
    "bc": {"hidden_dims": (128, 128), "actor_lr": 1e-3},
}


def get_config(algorithm: str = "xql") -> ConfigDict:
    return suite_config(
        algorithm, suites=("pointmaze", "maze2d"), differences=DIFFERENCES, decay_actor_lr=True
    )
