"""Franka Kitchen: XQL's values are the first of Table 4, IQL's those of Kostrikov et al. 2021, Appendix B.

Two settings are not in Table 4 but in the authors' configuration: V's layer norm (`layer_norm`) and the
actor's dropout (`dropout_rate`), which IQL has too.
"""

from ml_collections import ConfigDict

from xql_jax.runs.config_files import config_of

ROWS = {
    "in_sample": {"awr_temperature": 0.5, "dropout_rate": 0.1},
    "xql": {"beta": 5.0, "clip": 7.0, "clip_rule": "above", "layer_norm": True},
    "iql": {"expectile": 0.7},
    "mxql": {"beta": 5.0},
    "sql": {"alpha": 0.5},
    "eql": {"alpha": 2.0},
    "bc bc10": {"dropout_rate": 0.1},
    "awac": {"awr_temperature": 10.0},
    "onestep": {"awr_temperature": 0.1},
    "cql": {"cql_alpha": 1.0, "cql_threshold": 5.0},
    "cal_ql": {"actor_hidden_dims": (512,) * 3, "critic_hidden_dims": (512,) * 3, "endless": True}
    | {"num_pretraining_steps": 500_000, "offline_fraction": 0.25},
    "dt": {"return_scale": 100.0},
    # After a hand-over these collect by the centre of their policy, and learn slowly and mostly from the
    # data. At the full rate, and the more of their own actions they imitate, the sooner they forget what the
    # data show: docs/online.md has the measurements.
    "xql xql_bellman mxql iql bc": {"online": "actor_lr=1e-5", "acting_temperature": 0.0}
    | {"offline_fraction": 0.9},
}
TUNED = {  # Table 4, in parentheses
    "kitchen-complete-v0": {"beta": 2.0, "clip": 7.0, "batch_size": 1024, "v_updates": 1},
    "kitchen-partial-v0": {"beta": 5.0, "clip": 7.0, "batch_size": 1024, "v_updates": 1},
    "kitchen-mixed-v0": {"beta": 8.0, "clip": 7.0, "batch_size": 1024, "v_updates": 1},
}


def get_config(text: str = "xql") -> ConfigDict:
    return config_of(text, "kitchen", ROWS, tuned=TUNED)
