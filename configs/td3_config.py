"""TD3 and, by `--method=td3_dq`, TD3 - DQ with one critic.

Table 5's other values are the method's defaults, the buffer and the updates per step included.
"""

from ml_collections import ConfigDict

from xql_jax.configuration import defaults


def update_as_td3(config: ConfigDict, env_name: str, network: str) -> None:
    """Sets the values that TD3 and X-TD3 share."""
    config.warmup_steps = 25_000
    if network == "small":
        config.warmup_steps = 1_000  # the paper's networks are small already
    if env_name == "hopper-hop":
        config.exploration_noise = 0.05


def get_config(algorithm: str = "td3", env_name: str = "", network: str = "paper") -> ConfigDict:
    config = defaults(algorithm, only=("td3", "td3_dq"))
    update_as_td3(config, env_name, network)
    return config
