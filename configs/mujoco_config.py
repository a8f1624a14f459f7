"""Gym locomotion (Table 4), and Gymnasium's own tasks with your own data.

XQL's values are the first ones of Table 4, IQL's those of Kostrikov et al. 2021, Appendix B. Two settings are
not in Table 4 but in the authors' scripts and configuration: the untuned clip and V's layer norm
(`layer_norm`). With your own data XQL finds beta as by own_config.py, as on every task that has no data of
its own.
"""

from ml_collections import ConfigDict

from xql_jax.runs.config_files import config_of

ROWS = {
    "in_sample": {"awr_temperature": 3.0},
    # Table 4 prints no clip for the untuned column; 7 is what the authors' script passes.
    "xql": {"beta": 2.0, "clip": 7.0, "clip_rule": "above", "layer_norm": True},
    "iql": {"expectile": 0.7},
    "mxql": {"beta": 2.0},
    "sql": {"alpha": 1.0},
    "eql": {"alpha": 2.0},
    "awac": {"awr_temperature": 3.0},
    "rebrac": {"actor_bc_coef": 0.01, "critic_bc_coef": 0.01},
    "dt": {"return_scale": 250.0},
    # After a hand-over these collect by the centre of their policy, and learn slowly and mostly from the
    # data. At the full rate, and the more of their own actions they imitate, the sooner they forget what the
    # data show: docs/online.md has the measurements.
    "xql xql_bellman mxql iql bc": {"online": "actor_lr=1e-5", "acting_temperature": 0.0}
    | {"offline_fraction": 0.9},
}
WHEN = {"gymnasium": {"xql": {"beta_nats": 1.0, "clip_rule": "saturate"}}}  # by the task's suite
TUNED = {  # Table 4, in parentheses
    "halfcheetah-medium-v2": {"beta": 1.0, "clip": 7.0, "batch_size": 256, "v_updates": 1},
    "hopper-medium-v2": {"beta": 5.0, "clip": 7.0, "batch_size": 256, "v_updates": 1},
    "walker2d-medium-v2": {"beta": 10.0, "clip": 7.0, "batch_size": 256, "v_updates": 1},
    "halfcheetah-medium-replay-v2": {"beta": 1.0, "clip": 5.0, "batch_size": 256, "v_updates": 1},
    "hopper-medium-replay-v2": {"beta": 2.0, "clip": 7.0, "batch_size": 256, "v_updates": 1},
    "walker2d-medium-replay-v2": {"beta": 5.0, "clip": 7.0, "batch_size": 256, "v_updates": 1},
    "halfcheetah-medium-expert-v2": {"beta": 1.0, "clip": 5.0, "batch_size": 1024, "v_updates": 1},
    "hopper-medium-expert-v2": {"beta": 2.0, "clip": 7.0, "batch_size": 1024, "v_updates": 1},
    "walker2d-medium-expert-v2": {"beta": 2.0, "clip": 5.0, "batch_size": 1024, "v_updates": 1},
}


def get_config(text: str = "xql") -> ConfigDict:
    return config_of(text, "locomotion", ROWS, WHEN, TUNED)
