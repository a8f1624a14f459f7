"""Point mazes, including D4RL's maze2d: values for runs of some 30,000 updates on a CPU.

Fine-tuning has values for large, where the goal is several hundred steps away. Beyond the goal there are no
data, and V is higher there than at the goal. A policy that follows maxima over actions walks into that dead
end until its own steps have corrected V. Therefore XQL's beta is high at the start of the online phase, which
makes V nearly the mean over the actions taken, and IQL's expectile is lower than offline. These values were
chosen on pointmaze-large-rare-v0, seeds 100 to 105. RLPD is reduced to the size of the others: 2 critics
instead of 10, and one update per step instead of 20.
"""

from ml_collections import ConfigDict

from xql_jax.runs.config_files import config_of

ROWS = {
    # Chosen for XQL on umaze, seeds 100 to 103. Nothing in the data stays at a goal, so the policy must learn
    # to brake there. That takes a small beta and a sharp policy, and a shorter horizon than usual keeps both
    # stable. The minimum of two critics is too pessimistic here. The horizon is too short for large, where
    # the goal is several hundred steps away.
    "all": {"hidden_dims": (128, 128), "actor_lr": 1e-3, "value_lr": 1e-3, "critic_lr": 1e-3}
    | {"tau": 0.02, "discount": 0.97, "layer_norm": False},
    "in_sample": {"num_critics": 1, "awr_temperature": 30.0},
    "xql": {"beta": 0.2, "clip": 5.0},
    "iql": {"expectile": 0.9},
    # Those of the next six were chosen on seeds 100 and 101.
    "mxql": {"beta": 0.5},
    "sql": {"alpha": 0.05},
    "eql": {"alpha": 0.1},
    "qql": {"least_scale": 0.02},
    "dvl_tv": {"tradeoff": 0.9},
    "xql_bellman": {"awr_temperature": 10.0},
    "awac": {"awr_temperature": 10.0},
    # Rewards are 0 or 1, and with a weight of 5 Q of the data's actions is below 0. The best of 0.1, 0.5 and
    # 1 on seed 100; the actor is slower than the critics.
    "cql cal_ql": {"cql_alpha": 0.1, "actor_lr": 3e-4},
    "rebrac": {"actor_bc_coef": 0.003, "critic_bc_coef": 0.001},
    "brac_p bear": {"behavior_lr": 1e-3, "warm_start": 3_000.0},
    "dt": {"return_scale": 20.0, "context_length": 10, "embed_dim": 64, "num_layers": 2}
    | {"actor_warmup_steps": 1000.0},
}
WHEN = {
    "finetune": {
        "all": {"discount": 0.99},
        "in_sample": {"awr_temperature": 10.0},
        "xql iql cal_ql": {"num_pretraining_steps": 20_000},
        "xql": {"beta": 0.5, "online": "beta=5:2 actor_lr=0.0003:0.00003"},
        "iql": {"online": "expectile=0.7 actor_lr=0.0003:0.00003"},
        "rlpd": {"num_critics": 2, "actor_period": 1, "warmup_steps": 1_000, "updates_per_step": 1.0},
    }
}


def get_config(text: str = "xql") -> ConfigDict:
    return config_of(text, "pointmaze", ROWS, WHEN)
