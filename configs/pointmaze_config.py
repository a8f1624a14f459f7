"""Point mazes, including D4RL's maze2d: values for runs of some 30,000 updates on a CPU."""

from ml_collections import ConfigDict

from xql_jax.configuration import VARIANTS_OF_XQL, defaults, update_all, update_in_sample
from xql_jax.learners.registry import method_of


def get_config(algorithm: str = "xql") -> ConfigDict:
    config = defaults(algorithm, "pointmaze")
    method = method_of(algorithm)
    # Chosen for XQL on umaze, seeds 100 to 103. Nothing in the data stays at a goal, so the policy must learn
    # to brake there. That takes a small beta and a sharp policy, and a shorter horizon than usual keeps both
    # stable. The minimum of two critics is too pessimistic here. The horizon is too short for large, where
    # the goal is several hundred steps away.
    update_all(config, hidden_dims=(128, 128), actor_lr=1e-3, value_lr=1e-3, critic_lr=1e-3)
    update_all(config, tau=0.02, discount=0.97, layer_norm=False)
    update_in_sample(config, num_critics=1, awr_temperature=30.0)
    if method in VARIANTS_OF_XQL:
        update_all(config, beta=0.2, clip=5.0)
    if method == "iql":
        config.expectile = 0.9
    if method in ("cql", "cal_ql"):
        config.actor_lr = 3e-4  # slower than the critics
    return config
