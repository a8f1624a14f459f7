"""Online methods: Table 5's values, and beta by task (Table 6); other tasks get the middle of those swept.

Table 5's rates, widths, periods, buffer and updates per step are the methods' defaults. Values that it does
not print are from the authors' code. SAC has the value network of the paper's baseline;
`--nouses_value_network` removes it. `small` is for a laptop's CPU; TD3's networks are small already.
"""

from ml_collections import ConfigDict

from xql_jax.runs.config_files import config_of

ROWS = {
    "sac xsac": {"batch_size": 1024, "warmup_steps": 5_000},
    "td3 td3_dq xtd3 xtd3_dq": {"warmup_steps": 25_000},
    "xsac xtd3": {"beta": 2.0},
    "xtd3_dq": {"beta": 4.0},
}
WHEN = {
    "small": {
        "sac xsac": {"hidden_dims": (256, 256), "actor_lr": 1e-3, "critic_lr": 1e-3, "value_lr": 1e-3}
        | {"entropy_coef_lr": 1e-3, "batch_size": 256},
        "all": {"warmup_steps": 1_000},
    },
    "cheetah-run": {"xsac": {"beta": 2.0}, "xtd3": {"beta": 5.0}, "xtd3_dq": {"beta": 4.0}},
    "walker-run": {"xsac": {"beta": 1.0}, "xtd3": {"beta": 2.0}, "xtd3_dq": {"beta": 4.0}},
    "hopper-hop": {
        "xsac": {"beta": 2.0},
        "xtd3": {"beta": 2.0},
        "xtd3_dq": {"beta": 3.0},
        "td3 td3_dq xtd3 xtd3_dq": {"exploration_noise": 0.05},
    },
    "quadruped-run": {"xsac": {"beta": 5.0}, "xtd3": {"beta": 5.0}, "xtd3_dq": {"beta": 20.0}},
}


def get_config(text: str = "xsac") -> ConfigDict:
    return config_of(text, "online", ROWS, WHEN)
