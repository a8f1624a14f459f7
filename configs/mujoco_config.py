"""Gym locomotion (Table 4), and Gymnasium's own tasks with your own data.

XQL's values are the first ones of Table 4, IQL's those of Kostrikov et al. 2021, Appendix B. Two settings are
not in Table 4 but in the authors' scripts and configuration: the untuned clip and V's layer norm
(`layer_norm`).
"""

from ml_collections import ConfigDict

from xql_jax.configuration import CLONE_SLOWLY, suite_config

SUITES = ("locomotion", "bullet", "gymnasium")
IN_SAMPLE = {"awr_temperature": 3.0}
DIFFERENCES = {
    # Table 4 prints no clip for the untuned column; 7 is what the authors' script passes.
    "xql": {"beta": 2.0, "clip": 7.0, "layer_norm": True},
    "iql": {"expectile": 0.7},
}

# Table 4, in parentheses: beta, clip, batch size, v_updates.
TABLE_4 = {
    "halfcheetah-medium-v2": (1.0, 7.0, 256, 1),
    "hopper-medium-v2": (5.0, 7.0, 256, 1),
    "walker2d-medium-v2": (10.0, 7.0, 256, 1),
    "halfcheetah-medium-replay-v2": (1.0, 5.0, 256, 1),
    "hopper-medium-replay-v2": (2.0, 7.0, 256, 1),
    "walker2d-medium-replay-v2": (5.0, 7.0, 256, 1),
    "halfcheetah-medium-expert-v2": (1.0, 5.0, 1024, 1),
    "hopper-medium-expert-v2": (2.0, 7.0, 1024, 1),
    "walker2d-medium-expert-v2": (2.0, 5.0, 1024, 1),
}


def get_config(algorithm: str = "xql") -> ConfigDict:
    return suite_config(
        algorithm,
        suites=SUITES,
        differences=DIFFERENCES,
        in_sample=IN_SAMPLE,
        tuned=TABLE_4,
        finetune=CLONE_SLOWLY,
    )
