"""TD3 and, by `--method=td3_dq`, TD3 - DQ with one critic.

Table 5's other values are the method's defaults, the buffer and the updates per step included.
"""

from ml_collections import ConfigDict

from xql_jax.configuration import online_config

DIFFERENCES = {"warmup_steps": 25_000}
BY_TASK = {"hopper-hop": {"exploration_noise": 0.05}}
SMALL = {"warmup_steps": 1_000}  # the paper's networks are small already


def get_config(algorithm: str = "td3") -> ConfigDict:
    values = {"differences": DIFFERENCES, "small": SMALL, "by_task": BY_TASK}
    return online_config(algorithm, algorithms=("td3", "td3_dq"), **values)
