"""Point mazes, offline to online: values for large, where the goal is several hundred steps away.

Beyond the goal there are no data, and V is higher there than at the goal. A policy that follows maxima over
actions walks into that dead end until its own steps have corrected V. Therefore XQL's beta is high at the
start of the online phase, which makes V nearly the mean over the actions taken, and IQL's expectile is lower
than offline. The values were chosen on pointmaze-large-rare-v0, seeds 100 to 105. RLPD is reduced to the size
of the others: 2 critics instead of 10, and one update per step instead of 20.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from xql_jax.configuration import VARIANTS_OF_XQL, update_all, update_in_sample
from xql_jax.learners.registry import method_of

OFFLINE_FILE = Path(__file__).with_name("pointmaze_config.py")


def get_config(algorithm: str = "xql") -> ConfigDict:
    config = runpy.run_path(str(OFFLINE_FILE))["get_config"](algorithm)
    method = method_of(algorithm)
    update_all(config, discount=0.99)
    update_in_sample(config, awr_temperature=10.0)
    if method in VARIANTS_OF_XQL:
        update_all(config, beta=0.5)
    if method in ("xql", "iql", "cal_ql"):
        config.num_pretraining_steps = 20_000
    if method == "xql":
        config.online = "beta=5:2 actor_lr=0.0003:0.00003"
    if method == "iql":
        config.online = "expectile=0.7 actor_lr=0.0003:0.00003"
    if method == "rlpd":
        config.num_critics = 2
        config.actor_period = 1
        config.warmup_steps = 1_000
        config.updates_per_step = 1.0
    return config
