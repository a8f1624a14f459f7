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

from xql_jax.configuration import suite_config

OFFLINE = runpy.run_path(str(Path(__file__).with_name("pointmaze_config.py")))
VALUES = {
    "shared": {**OFFLINE["SHARED"], "discount": 0.99},
    "in_sample": {"num_critics": 1, "awr_temperature": 10.0},
    "differences": {
        **OFFLINE["DIFFERENCES"],
        "xql": {"beta": 0.5, "clip": 5.0},
        "rlpd": {"num_critics": 2, "actor_period": 1},
    },
}
FINETUNE = {
    "xql": {"num_pretraining_steps": 20_000, "online": "beta=5:2 actor_lr=0.0003:0.00003"},
    "iql": {"num_pretraining_steps": 20_000, "online": "expectile=0.7 actor_lr=0.0003:0.00003"},
    "cal_ql": {"num_pretraining_steps": 20_000},
    "rlpd": {"warmup_steps": 1_000, "updates_per_step": 1.0},
}


def get_config(algorithm: str = "xql") -> ConfigDict:
    return suite_config(algorithm, suites=("pointmaze", "maze2d"), finetune=FINETUNE, **VALUES)
