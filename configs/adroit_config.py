"""Adroit. The paper prints no values for it. XQL's values are from the authors' example for pen-human.

That example also has batches of 1024: --batch_size=1024.
"""

from ml_collections import ConfigDict

from xql_jax.runs.config_files import config_of

THREE_LAYERS = {"actor_hidden_dims": (256,) * 3, "critic_hidden_dims": (256,) * 3}
ROWS = {
    "in_sample": {"awr_temperature": 0.5, "dropout_rate": 0.1},
    "xql": {"beta": 8.0, "clip": 5.0, "clip_rule": "above", "uniform_actions": 1, "layer_norm": True},
    "iql": {"expectile": 0.7},
    "mxql": {"beta": 8.0},  # XQL's
    "bc bc10": {"dropout_rate": 0.1},
    "awac": {"awr_temperature": 10.0},
    "cql": {"cql_alpha": 1.0, "cql_threshold": 5.0},
    "cal_ql": {"cql_alpha": 1.0, "actor_hidden_dims": (512,) * 2, "critic_hidden_dims": (512,) * 3},
    "rebrac": {"actor_lr": 3e-4, "critic_lr": 3e-4, "actor_bc_coef": 0.05, "critic_bc_coef": 0.1},
    "rlpd": {"backup_entropy": False, **THREE_LAYERS},
}


def get_config(text: str = "xql") -> ConfigDict:
    return config_of(text, "adroit", ROWS)
