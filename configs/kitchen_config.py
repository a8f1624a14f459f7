"""Franka Kitchen: XQL's values are the first of Table 4, IQL's those of Kostrikov et al. 2021, Appendix B.

Two settings are not in Table 4 but in the authors' configuration: V's layer norm (`layer_norm`) and the
actor's dropout (`dropout_rate`), which IQL has too.
"""

from ml_collections import ConfigDict

from xql_jax.configuration import CLONE_SLOWLY, suite_config

IN_SAMPLE = {"awr_temperature": 0.5, "dropout_rate": 0.1}
DIFFERENCES = {
    "xql": {"beta": 5.0, "clip": 7.0, "layer_norm": True},
    "iql": {"expectile": 0.7},
    "bc": {"dropout_rate": 0.1},
    "bc10": {"dropout_rate": 0.1},
}

# Table 4, in parentheses: beta, clip, batch size, v_updates.
TABLE_4 = {
    "kitchen-complete-v0": (2.0, 7.0, 1024, 1),
    "kitchen-partial-v0": (5.0, 7.0, 1024, 1),
    "kitchen-mixed-v0": (8.0, 7.0, 1024, 1),
}

FINETUNE = {
    **CLONE_SLOWLY,
    "cal_ql": {"num_pretraining_steps": 500_000, "offline_fraction": 0.25},
}


def get_config(algorithm: str = "xql") -> ConfigDict:
    return suite_config(
        algorithm,
        suites=("kitchen",),
        differences=DIFFERENCES,
        in_sample=IN_SAMPLE,
        tuned=TABLE_4,
        finetune=FINETUNE,
    )
