"""SAC with the value network of the paper's baseline; `uses_value_network=False` removes it.

Table 5's rates, widths, periods, buffer and updates per step are the method's defaults. Values that it does
not print are from the authors' code.
"""

from ml_collections import ConfigDict

from xql_jax.configuration import defaults, update_all


def update_as_sac(config: ConfigDict, network: str) -> None:
    """Sets the values that SAC and X-SAC share."""
    config.batch_size = 1024
    config.warmup_steps = 5_000
    if network == "small":  # for a laptop's CPU
        update_all(config, hidden_dims=(256, 256), actor_lr=1e-3, critic_lr=1e-3, value_lr=1e-3)
        config.entropy_coef_lr = 1e-3
        config.batch_size = 256
        config.warmup_steps = 1_000


def get_config(algorithm: str = "sac", network: str = "paper") -> ConfigDict:
    config = defaults(algorithm, only=("sac",))
    update_as_sac(config, network)
    return config
