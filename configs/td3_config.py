"""TD3 and, by `--method=td3_dq`, TD3 - DQ with one critic (Table 5).

The buffer of 1,000,000 transitions and one update per step are the defaults.
"""

from ml_collections import ConfigDict

from xql_jax.configuration import online_config

TABLE_5 = {
    **dict.fromkeys(("actor_lr", "critic_lr"), 1e-3),
    "hidden_dims": (256, 256),
    "actor_period": 2,
    "exploration_noise": 0.1,
    "target_noise": 0.2,
    "batch_size": 256,
    "warmup_steps": 25_000,
}
BY_TASK = {"hopper-hop": {"exploration_noise": 0.05}}
SMALL = {"warmup_steps": 1_000}  # the paper's networks are small already


def get_config(algorithm: str = "td3") -> ConfigDict:
    return online_config(
        algorithm, algorithms=("td3", "td3_dq"), differences=TABLE_5, small=SMALL, by_task=BY_TASK
    )
