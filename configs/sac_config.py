"""SAC (Table 5) with the value network of the paper's baseline; `uses_value_network=False` removes it.

The buffer of 1,000,000 transitions and one update per step are the defaults.

Values that Table 5 does not print (random steps, Polyak rate, first entropy coefficient) are from the
authors' code.
"""

from ml_collections import ConfigDict

from xql_jax.configuration import online_config

TABLE_5 = {
    **dict.fromkeys(("actor_lr", "critic_lr", "value_lr", "entropy_coef_lr"), 1e-4),
    "hidden_dims": (1024, 1024),
    "actor_period": 1,
    "batch_size": 1024,
    "warmup_steps": 5_000,
}
# For a laptop's CPU.
SMALL = {
    **dict.fromkeys(("actor_lr", "critic_lr", "value_lr", "entropy_coef_lr"), 1e-3),
    "hidden_dims": (256, 256),
    "batch_size": 256,
    "warmup_steps": 1_000,
}


def get_config(algorithm: str = "sac") -> ConfigDict:
    return online_config(algorithm, algorithms=("sac",), differences=TABLE_5, small=SMALL, by_task={})
