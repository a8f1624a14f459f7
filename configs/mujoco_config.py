"""Gym locomotion (Table 4), and Gymnasium's own tasks with your own data.

XQL's values are the first ones of Table 4, IQL's those of Kostrikov et al. 2021, Appendix B. Two settings are
not in Table 4 but in the authors' scripts and configuration: the untuned clip and V's layer norm
(`layer_norm`).
"""

from ml_collections import ConfigDict

from xql_jax.configuration import VARIANTS_OF_XQL, defaults, update_all, update_in_sample
from xql_jax.learners.registry import method_of


def get_config(algorithm: str = "xql") -> ConfigDict:
    config = defaults(algorithm, "locomotion")
    method = method_of(algorithm)

    update_in_sample(config, awr_temperature=3.0)
    if method in VARIANTS_OF_XQL:
        # Table 4 prints no clip for the untuned column; 7 is what the authors' script passes.
        update_all(config, beta=2.0, clip=7.0, clip_rule="above", layer_norm=True)
    if method == "iql":
        config.expectile = 0.7
    if method in ("xql", "xql_bellman", "mxql", "iql", "bc"):
        # After a hand-over these collect by the centre of their policy, and learn slowly and mostly from the
        # data. At the full rate, and the more of their own actions they imitate, the sooner they forget what
        # the data show: docs/finetune.md has the measurements.
        config.online = "actor_lr=1e-5"
        config.acting_temperature = 0.0
        config.offline_fraction = 0.9
    return config
