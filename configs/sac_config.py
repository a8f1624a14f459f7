"""SAC with the value network of the paper's baseline; `uses_value_network=False` removes it.

Table 5's rates, widths, periods, buffer and updates per step are the method's defaults. Values that it does
not print are from the authors' code.
"""

from ml_collections import ConfigDict

from xql_jax.configuration import online_config

DIFFERENCES = {"batch_size": 1024, "warmup_steps": 5_000}
# For a laptop's CPU.
SMALL = {
    **dict.fromkeys(("actor_lr", "critic_lr", "value_lr", "entropy_coef_lr"), 1e-3),
    "hidden_dims": (256, 256),
    "batch_size": 256,
    "warmup_steps": 1_000,
}


def get_config(algorithm: str = "sac") -> ConfigDict:
    return online_config(algorithm, algorithms=("sac",), differences=DIFFERENCES, small=SMALL)
